// One row of a LayerNorm, in place.
#pragma once

#include <cmath>

#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {

inline float row_sum(const float* x, int64_t size, float shift, bool squared) {
  Vec one = all(0.0f), other = all(0.0f);
  const Vec by = all(shift);
  int64_t k = 0;
  for (; k + 2 * kLanes <= size; k += 2 * kLanes) {
    const Vec a = load(x + k) - by, b = load(x + k + kLanes) - by;
    one += squared ? a * a : a;
    other += squared ? b * b : b;
  }
  float rest = 0.0f;
  for (; k < size; ++k) rest += squared ? (x[k] - shift) * (x[k] - shift) : x[k] - shift;
  return sum(one + other) + rest;
}

// (x - mean) / sqrt(variance + eps) * weight + bias. Two passes: a mean far from zero costs no digits of the variance.
inline void normalize(float* x, int64_t size, const float* weight, const float* bias, float eps) {
  const float mean = row_sum(x, size, 0.0f, false) / static_cast<float>(size);
  const float variance = row_sum(x, size, mean, true) / static_cast<float>(size);
  const float scale = 1.0f / sqrtf(variance + eps);
  int64_t k = 0;
  for (; k + kLanes <= size; k += kLanes) {
    store(x + k, (load(x + k) - all(mean)) * all(scale) * load(weight + k) + load(bias + k));
  }
  for (; k < size; ++k) x[k] = (x[k] - mean) * scale * weight[k] + bias[k];
}

}  // namespace PERFQ_ISA
}  // namespace perfq
