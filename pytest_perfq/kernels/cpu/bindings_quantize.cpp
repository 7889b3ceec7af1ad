// Float to uint8 by one scale and zero, and back.

#include <torch/csrc/stable/library.h>

#include <bit>
#include <cmath>

#include "bindings.h"

namespace perfq {
namespace {

// A uint8 has no place for NaN or infinity: quantized, a broken model would look like one that is not.
void check_finite(const char* op, const Input<float>& rows) {
  const float* x = rows.data();
  const int64_t count = rows.count();
  constexpr uint32_t kExponent = 0x7F800000u;  // all bits set in what is not finite
  uint32_t found = 0;
  for (int64_t at = 0; at < count; ++at) found |= (std::bit_cast<uint32_t>(x[at]) & kExponent) == kExponent ? ~0u : 0u;
  if (!found) return;
  int64_t at = 0;
  while (std::isfinite(x[at])) ++at;
  const char* name = std::isnan(x[at]) ? "nan" : x[at] > 0 ? "inf" : "-inf";
  refuse(op, "x is ", name, " at row ", at / rows.size(1), ", column ", at % rows.size(1), "; uint8 holds finite numbers only");
}

Tensor quantize(const Tensor& x, const Tensor& scale, const Tensor& zero, int64_t levels) {
  const char* op = "quantize";
  const Input<float> rows(op, "x", x, 2);
  check_finite(op, rows);
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
