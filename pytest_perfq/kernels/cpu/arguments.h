// The checks that several ops make of their arguments; those of one tensor stand in csrc/tensors.h.
#pragma once

#include <string>
#include <vector>

#include "launch.h"
#include "tensors.h"

namespace perfq {

constexpr int64_t kMostSequences = 4096;
constexpr int64_t kMostPositions = 4096;

// By the names that csrc/schema.cpp gives.
Activation activation_of(const char* op, const std::string& name);
Bits bits_of(const char* op, const std::string& name);
int32_t levels_of(const char* op, int64_t levels);

int64_t at_least_one(const char* op, const char* what, int64_t value);

// One scale and zero; on the CPU their values can be looked at.
Quantized quantized_as(const char* op, const char* of, const Tensor& scale, const Tensor& zero, int32_t levels);
void same_number(const char* op, const std::vector<Tensor>& scales, const std::vector<Tensor>& zeros, size_t wanted);

// Sequences lie one after the other and cover all tokens; the longest is within the limit.
void check_sequences(const char* op, const Input<int32_t>& cu_seqlens, int64_t tokens);
// Places of tokens rise within 0 and places - 1.
void check_index(const char* op, const Input<int32_t>& index, int64_t places);

// What attention asks of its shapes; the head size.
int64_t head_size(const char* op, int64_t features, int64_t heads);

// A packed INT8 weight begins where its tiles load from.
void aligned(const char* op, const Input<int8_t>& packed);

}  // namespace perfq
