// Float to uint8 by one scale and zero, and back.

#include <torch/csrc/stable/library.h>

#include "bindings.h"

namespace perfq {
namespace {

Tensor quantize(const Tensor& x, const Tensor& scale, const Tensor& zero, int64_t levels) {
  const char* op = "quantize";
  const Input<float> rows(op, "x", x, 2);
  Tensor q = make({rows.size(0), rows.size(1)}, ScalarType::Byte);
  Rows call{};
  call.x = rows.data(), call.q = data_of<uint8_t>(q), call.count = rows.count();
  call.as = quantized_as(op, "x", scale, zero, levels_of(op, levels));
  kernels().quantize(call, workers());
  return q;
}

Tensor dequantize(const Tensor& x, const Tensor& scale, const Tensor& zero) {
  const char* op = "dequantize";
  const Input<uint8_t> rows(op, "x", x, 2);
  Tensor y = make({rows.size(0), rows.size(1)}, ScalarType::Float);
  Rows call{};
  call.q_in = rows.data(), call.y = data_of<float>(y), call.count = rows.count();
  call.as = quantized_as(op, "x", scale, zero, 255);
  kernels().dequantize(call, workers());
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(perfq, CPU, m) {
  m.impl("quantize", TORCH_BOX(&quantize));
  m.impl("dequantize", TORCH_BOX(&dequantize));
}

}  // namespace perfq
