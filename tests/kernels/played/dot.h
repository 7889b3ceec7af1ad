// `dot` of cpu/tile_bf16.h in plain C++, for machines without the unit: Intel's manual, volume 2, VDPBF16PS. Of each pair the later
// product is added first, each addition is rounded once, and denormals are zeros wherever they are read or made.
#pragma once

#include <cfloat>
#include <cmath>

namespace perfq {
namespace PERFQ_ISA {

inline float flushed(float value) { return std::fabs(value) < FLT_MIN ? std::copysign(0.0f, value) : value; }

inline float number(uint32_t bf16) {
  const uint32_t bits = bf16 << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return flushed(value);
}

inline Sums dot(Sums sums, Pairs x, Pairs w) {
  for (int lane = 0; lane < kPairLanes; ++lane) {
    const float later = flushed(std::fma(number(x[lane] >> 16), number(w[lane] >> 16), flushed(sums[lane])));
    sums[lane] = flushed(std::fma(number(x[lane] & 0xFFFF), number(w[lane] & 0xFFFF), later));
  }
  return sums;
}

}  // namespace PERFQ_ISA
}  // namespace perfq
