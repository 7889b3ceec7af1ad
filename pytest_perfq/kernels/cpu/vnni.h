// The dot product of bytes, vpdpbusd: of AVX512 on vectors of 64 bytes, of AVX-VNNI on 32. PERFQ_VNNI is their size, and is not
// defined where there is neither.
//
// PERFQ_PLAYED_VNNI, such a size, plays the instruction in plain C++: so the tests run the tiles on a machine that lacks it.
#pragma once

#include "simd.h"

#if defined(PERFQ_PLAYED_VNNI)
#define PERFQ_VNNI PERFQ_PLAYED_VNNI
#elif defined(__AVX512VNNI__)
#define PERFQ_VNNI 64
#elif defined(__AVXVNNI__)
#define PERFQ_VNNI 32
#endif

#ifdef PERFQ_VNNI
namespace perfq {
namespace PERFQ_ISA {

typedef int32_t Sums __attribute__((vector_size(PERFQ_VNNI)));
typedef int32_t SumsAnywhere __attribute__((vector_size(PERFQ_VNNI), aligned(4), may_alias));
constexpr int kSums = sizeof(Sums) / sizeof(int32_t);  // columns of a vector

inline Sums load_sums(const void* from) { return *static_cast<const SumsAnywhere*>(from); }
inline void store_sums(int32_t* to, Sums value) { *reinterpret_cast<SumsAnywhere*>(to) = value; }

// In each lane: total + the four products of the unsigned bytes of `a` with the signed bytes of `w`. The sum wraps around and
// never saturates. Intel's manual, volume 2, VPDPBUSD.
#if defined(PERFQ_PLAYED_VNNI)
__attribute__((noinline)) inline Sums dot(Sums total, Sums a, Sums w) {
  uint8_t left[sizeof(Sums)];
  int8_t right[sizeof(Sums)];
  memcpy(left, &a, sizeof left);
  memcpy(right, &w, sizeof right);
  for (int lane = 0; lane < kSums; ++lane) {
    for (int byte = 4 * lane; byte < 4 * lane + 4; ++byte) total[lane] += left[byte] * right[byte];
  }
  return total;
}
#elif PERFQ_VNNI == 64
inline Sums dot(Sums total, Sums a, Sums w) { return (Sums)_mm512_dpbusd_epi32((__m512i)total, (__m512i)a, (__m512i)w); }
#else
inline Sums dot(Sums total, Sums a, Sums w) { return (Sums)_mm256_dpbusd_avx_epi32((__m256i)total, (__m256i)a, (__m256i)w); }
#endif

}  // namespace PERFQ_ISA
}  // namespace perfq
#endif
