// LayerNorm of a sum, a row at a time: the row is read once, kept in L1, and written once.

#include "launchers.h"
#include "normalize.h"
#include "parallel.h"
#include "quantizing.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

constexpr int64_t kGrain = 16;  // rows a thread takes at least; a row is about a microsecond

void add(const float* x, const float* residual, const float* bias, int64_t size, float* to) {
  int64_t k = 0;
  for (; k + kWideLanes <= size; k += kWideLanes) {
    Wide v = load_wide(x + k) + load_wide(residual + k);
    if (bias) v += load_wide(bias + k);
    store_wide(to + k, v);
  }
  for (; k < size; ++k) to[k] = x[k] + residual[k] + (bias ? bias[k] : 0.0f);
}

void add_bytes(const AddLayerNorm& call, int64_t row, float* to, float* other) {
  dequantize_row(call.x8 + row * call.size, call.size, call.x_as, to);
  dequantize_row(call.residual8 + row * call.size, call.size, call.residual_as, other);
  add(to, other, nullptr, call.size, to);
}

}  // namespace

void add_layernorm(const AddLayerNorm& call, const Workers& workers) {
  parallel(workers, call.rows, kGrain, [&](int64_t begin, int64_t end) {
    float* rows = call.y ? nullptr : static_cast<float*>(scratch(kPanel, sizeof(float) * 2 * (call.size + kLanes)));
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = row * call.size;
      if (call.y) {
        add(call.x + at, call.residual + at, call.linear_bias, call.size, call.y + at);
        normalize(call.y + at, call.size, call.weight, call.bias, call.eps);
      } else {
        add_bytes(call, row, rows, rows + call.size + kLanes);
        normalize(rows, call.size, call.weight, call.bias, call.eps);
        quantize_row(rows, call.size, call.y_as, call.y8 + at);
      }
    }
  });
}

}  // namespace PERFQ_ISA
}  // namespace perfq
