// Attention within sequences, in float and between uint8 tensors.

#include <torch/csrc/stable/library.h>

#include "bindings.h"

namespace perfq {
namespace {

Tensor varlen_attention(const Tensor& qkv, const Tensor& cu_seqlens, int64_t heads, double scale, bool may_round) {
  const char* op = "varlen_attention";
  const Input<float> rows(op, "qkv", qkv, 2);
  const Input<int32_t> starts(op, "cu_seqlens", cu_seqlens, 1);
  const int64_t size = head_size(op, rows.size(1), heads);
  check_sequences(op, starts, rows.size(0));
  Tensor out = make({rows.size(0), heads * size}, ScalarType::Float);
  Attention call{};
  call.qkv = rows.data(), call.out = data_of<float>(out), call.cu_seqlens = starts.data();
  call.sequences = starts.count() - 1, call.heads = heads, call.size = size, call.scale = static_cast<float>(scale);
  call.may_round = may_round;
  kernels().attention(call, workers());
  return out;
}

Tensor varlen_attention_int8(const Tensor& qkv, const Tensor& cu_seqlens, int64_t heads, double scale,
                             std::vector<Tensor> scales, std::vector<Tensor> zeros, int64_t levels) {
  const char* op = "varlen_attention_int8";
  const Input<uint8_t> rows(op, "qkv", qkv, 2);
  const Input<int32_t> starts(op, "cu_seqlens", cu_seqlens, 1);
  const int64_t size = head_size(op, rows.size(1), heads);
  const int32_t top = levels_of(op, levels);
  check_sequences(op, starts, rows.size(0));
  same_number(op, scales, zeros, 2);
  Tensor out = make({rows.size(0), heads * size}, ScalarType::Byte);
  Attention call{};
  call.qkv8 = rows.data(), call.out8 = data_of<uint8_t>(out), call.cu_seqlens = starts.data();
  call.in_as = quantized_as(op, "qkv", scales[0], zeros[0], top);
  call.out_as = quantized_as(op, "the output", scales[1], zeros[1], top);
  call.sequences = starts.count() - 1, call.heads = heads, call.size = size, call.scale = static_cast<float>(scale);
  call.may_round = true;
  kernels().attention(call, workers());
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(perfq, CPU, m) {
  m.impl("varlen_attention", TORCH_BOX(&varlen_attention));
  m.impl("varlen_attention_int8", TORCH_BOX(&varlen_attention_int8));
}

}  // namespace perfq
