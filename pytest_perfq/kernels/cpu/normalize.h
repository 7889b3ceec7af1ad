// One row of a LayerNorm, in place.
#pragma once

#include <cmath>

#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {

// So many sums that none waits for its last addition.
constexpr int kRowSums = kWideLanes == kLanes ? 2 : 4;

template <bool kSquared>
inline float row_sum(const float* x, int64_t size, float shift) {
  Wide sums[kRowSums] = {};
  const Wide by = wide(shift);
  const auto see = [&](int way, int64_t k) {
    const Wide v = load_wide(x + k) - by;
    sums[way] += kSquared ? v * v : v;
  };
  int64_t k = 0;
  for (; k + kRowSums * kWideLanes <= size; k += kRowSums * kWideLanes) {
    PERFQ_UNROLL
    for (int way = 0; way < kRowSums; ++way) see(way, k + way * kWideLanes);
  }
  if constexpr (kRowSums > 2) {
    for (; k + kWideLanes <= size; k += kWideLanes) see(0, k);
  }
  float rest = 0.0f;
  for (; k < size; ++k) rest += kSquared ? (x[k] - shift) * (x[k] - shift) : x[k] - shift;
  Wide total = sums[0] + sums[1];
  if constexpr (kRowSums > 2) total += sums[2] + sums[3];
  return sum(total) + rest;
}

// (x - mean) / sqrt(variance + eps) * weight + bias. Two passes: a mean far from zero costs no digits of the variance.
inline void normalize(float* x, int64_t size, const float* weight, const float* bias, float eps) {
  const float mean = row_sum<false>(x, size, 0.0f) / static_cast<float>(size);
  const float variance = row_sum<true>(x, size, mean) / static_cast<float>(size);
  const float scale = 1.0f / sqrtf(variance + eps);
  int64_t k = 0;
  for (; k + kWideLanes <= size; k += kWideLanes) {
    store_wide(x + k, (load_wide(x + k) - wide(mean)) * wide(scale) * load_wide(weight + k) + load_wide(bias + k));
  }
  for (; k < size; ++k) x[k] = (x[k] - mean) * scale * weight[k] + bias[k];
}

}  // namespace PERFQ_ISA
}  // namespace perfq
