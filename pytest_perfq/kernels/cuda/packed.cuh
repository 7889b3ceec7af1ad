// Two numbers of two bytes in one register, and the fast power of two: what a GPU has an instruction for, and the emulation a
// few lines of its own.
#pragma once

#include "tensorcore.cuh"

namespace perfq::cuda {

constexpr float kLog2E = 1.44269504f;
// 1024 in f16, twice. Below it stand ten bits of ones: a byte in the lowest eight makes 1024 + byte.
constexpr uint32_t kThousands = 0x64006400u;

#ifdef PERFQ_EMULATED

inline float fast_exp2(float x) { return std::exp2(x); }

template <class T>
uint32_t pack_floats(float low, float high) {
  return pack(from_float<T>(low), from_float<T>(high));
}

// Bytes 0 and 1 of `four` (with `upper` 2 and 3), less `offset`, which is 1024 and the zero: exact.
inline uint32_t widen(uint32_t four, bool upper, uint32_t offset) {
  const auto less = [&](int one) {
    const uint32_t byte = four >> (8 * (one + (upper ? 2 : 0))) & 0xff;
    const f16 value{static_cast<uint16_t>((kThousands & 0xffff) | byte)}, taken{static_cast<uint16_t>(offset >> (16 * one))};
    return from_float<f16>(to_float(value) - to_float(taken));
  };
  return pack(less(0), less(1));
}

#else

// Within 2^-22 of 2^x, relative; results below 2^-126 are zero.
__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Nearest, ties to even, as from_float has it.
template <class T>
__device__ __forceinline__ uint32_t pack_floats(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack_floats<f16>(float low, float high) {
  const __half2 both = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}
template <>
__device__ __forceinline__ uint32_t pack_floats<bf16>(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

__device__ __forceinline__ uint32_t widen(uint32_t four, bool upper, uint32_t offset) {
  const uint32_t bits = __byte_perm(four, kThousands, upper ? 0x5352 : 0x5150);
  const __half2 both = __hsub2(*reinterpret_cast<const __half2*>(&bits), *reinterpret_cast<const __half2*>(&offset));
  return *reinterpret_cast<const uint32_t*>(&both);
}

#endif

}  // namespace perfq::cuda
