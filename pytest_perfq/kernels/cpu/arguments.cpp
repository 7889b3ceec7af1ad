// The checks of arguments.h.

#include "arguments.h"

#include <limits>

namespace perfq {

Activation activation_of(const char* op, const std::string& name) {
  if (name == "none") return Activation::kNone;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  if (name == "relu") return Activation::kRelu;
  if (name == "tanh") return Activation::kTanh;
  refuse(op, "unknown activation '", name, "'; known: none, relu, tanh, gelu, gelu_tanh");
}

Bits bits_of(const char* op, const std::string& name) {
  if (name == "w8a8") return Bits::kW8A8;
  if (name == "w8a7") return Bits::kW8A7;
  if (name == "w7a7") return Bits::kW7A7;
  refuse(op, "unknown bits '", name, "'; known: w8a8, w8a7, w7a7");
}

int32_t levels_of(const char* op, int64_t levels) {
  if (levels != 255 && levels != 127) refuse(op, "levels is ", levels, "; it is 255 (8 bits) or 127 (7 bits)");
  return static_cast<int32_t>(levels);
}

int64_t at_least_one(const char* op, const char* what, int64_t value) {
  if (value < 1) refuse(op, what, " is ", value, "; it must be at least 1");
  return value;
}

Quantized quantized_as(const char* op, const char* of, const Tensor& scale, const Tensor& zero, int32_t levels) {
  const std::string scale_name = std::string("the scale of ") + of, zero_name = std::string("the zero of ") + of;
  const Input<float> scales(op, scale_name.c_str(), scale, 1);
  const Input<int32_t> zeros(op, zero_name.c_str(), zero, 1);
  if (scales.count() != 1) refuse(op, scale_name, " holds ", scales.count(), " numbers, not 1");
  if (zeros.count() != 1) refuse(op, zero_name, " holds ", zeros.count(), " numbers, not 1");
  const float step = *scales.data();
  if (!(step > 0.0f) || !(step < std::numeric_limits<float>::infinity())) {
    refuse(op, scale_name, " is ", step, "; it must be positive and finite");
  }
  const int32_t offset = *zeros.data();
  if (offset < 0 || offset > levels) refuse(op, zero_name, " is ", offset, "; it must lie within 0 and ", levels);
  return {step, offset, levels};
}

void same_number(const char* op, const std::vector<Tensor>& scales, const std::vector<Tensor>& zeros, size_t wanted) {
  agree(op, "scales holds", scales.size(), "it takes", wanted);
  agree(op, "zeros holds", zeros.size(), "it takes", wanted);
}

void check_sequences(const char* op, const Input<int32_t>& cu_seqlens, int64_t tokens) {
  const int64_t sequences = cu_seqlens.count() - 1;
  if (sequences < 0) refuse(op, "cu_seqlens is empty; it holds one number more than there are sequences");
  if (sequences > kMostSequences) refuse(op, "there are ", sequences, " sequences; at most ", kMostSequences, " are run at once");
  const int32_t* starts = cu_seqlens.data();
  if (starts[0] != 0) refuse(op, "cu_seqlens begins with ", starts[0], ", not 0");
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t length = int64_t{starts[s + 1]} - starts[s];
    if (length < 0) refuse(op, "cu_seqlens falls from ", starts[s], " to ", starts[s + 1], " at sequence ", s);
    if (length > kMostPositions) refuse(op, "sequence ", s, " has ", length, " tokens; at most ", kMostPositions, " are run");
  }
  agree(op, "cu_seqlens ends with", starts[sequences], "the tokens are", tokens);
}

void check_index(const char* op, const Input<int32_t>& index, int64_t places) {
  const int32_t* at = index.data();
  for (int64_t token = 0; token < index.count(); ++token) {
    const bool rises = token == 0 || at[token] > at[token - 1];
    if (at[token] < 0 || at[token] >= places || !rises) {
      refuse(op, "index ", at[token], " of token ", token, " is not a place after the last one within 0 and ", places - 1);
    }
  }
}

int64_t head_size(const char* op, int64_t features, int64_t heads) {
  at_least_one(op, "heads", heads);
  if (features % (3 * heads) != 0) {
    refuse(op, "qkv has ", features, " features, which queries, keys and values of ", heads, heads == 1 ? " head" : " heads", " cannot share");
  }
  const int64_t size = features / (3 * heads);
  if (size % 8 != 0 || size < 8 || size > kMaxHeadSize) {
    refuse(op, "the head size is ", size, "; it must be a multiple of 8 from 8 to ", kMaxHeadSize);
  }
  return size;
}

void aligned(const char* op, const void* packed, uintptr_t bytes) {
  if (reinterpret_cast<uintptr_t>(packed) % bytes == 0) return;
  refuse(op, "the packed weight does not begin at ", bytes, " bytes; pack it anew");
}

}  // namespace perfq
