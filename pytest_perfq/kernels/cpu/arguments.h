// The checks that several ops make of their arguments; those of one tensor stand in csrc/tensors.h.
#pragma once

#include <string>
#include <vector>

#include "launch.h"
#include "tensors.h"

namespace perfq {

constexpr int64_t kMostSequences = 4096;
constexpr int64_t kMostPositions = 4096;
constexpr uintptr_t kInt8Alignment = 32;  // tiles load packed weights of INT8 so

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

// Refuses a packed weight that begins where what reads it would not.
void aligned(const char* op, const void* packed, uintptr_t bytes);

// A packed weight of `linear`, and held: floats, or pairs of bfloat16.
class FloatWeight {
 public:
  FloatWeight(const char* op, const char* name, const Tensor& packed, bool bf16) {
    if (bf16) {
      pairs_.emplace(op, name, packed, 1);
      aligned(op, pairs_->data(), alignof(uint32_t));
    } else {
      floats_.emplace(op, name, packed, 1);
    }
  }

  const float* floats() const { return floats_ ? floats_->data() : nullptr; }
  const uint32_t* pairs() const { return pairs_ ? reinterpret_cast<const uint32_t*>(pairs_->data()) : nullptr; }
  int64_t count() const { return pairs_ ? pairs_->count() : floats_->count(); }
  // How many numbers a weight of these features is.
  int64_t needed(int64_t out, int64_t in) const {
    return pairs_ ? round_up(out, kBf16Panel) * round_up(in, 2) : round_up(out, kFloatPanel) * in;
  }

 private:
  std::optional<Input<float>> floats_;
  std::optional<Input<BFloat16>> pairs_;
};

}  // namespace perfq
