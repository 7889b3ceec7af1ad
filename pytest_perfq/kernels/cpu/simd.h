// Eight floats at a time, or as many as the registers hold, by the compiler's vector extension: AVX2 or AVX512 where this file is
// compiled with it, any machine without. No std:: templates here or in the kernels: they are compiled once per ISA, and a shared
// instantiation that the linker picked from the AVX2 file would be an illegal instruction elsewhere.
#pragma once

#include <cstdint>
#include <cstring>
#ifdef __AVX2__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 takes operands that its intrinsics leave open for ours: 105593
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#define PERFQ_UNROLL _Pragma("GCC unroll 16")

namespace perfq {
namespace PERFQ_ISA {

constexpr int kLanes = 8;
typedef float Vec __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef float VecAnywhere __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t IntsAnywhere __attribute__((vector_size(32), aligned(4), may_alias));

inline Vec load(const float* from) { return *reinterpret_cast<const VecAnywhere*>(from); }
inline Ints load(const int32_t* from) { return *reinterpret_cast<const IntsAnywhere*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<VecAnywhere*>(to) = value; }
inline void store(int32_t* to, Ints value) { *reinterpret_cast<IntsAnywhere*>(to) = value; }
inline Vec all(float value) { return Vec{value, value, value, value, value, value, value, value}; }
inline Ints all(int32_t value) { return Ints{value, value, value, value, value, value, value, value}; }

// As wide as the registers: 64 bytes where this file is compiled for them (or they are played), else the eight floats.
#if defined(__AVX512F__) || PERFQ_PLAYED_VNNI == 64
#define PERFQ_WIDE
typedef float Wide __attribute__((vector_size(64)));
typedef int32_t WideInts __attribute__((vector_size(64)));
#else
using Wide = Vec;
using WideInts = Ints;
#endif
typedef float WideAnywhere __attribute__((vector_size(sizeof(Wide)), aligned(4), may_alias));
typedef int32_t WideIntsAnywhere __attribute__((vector_size(sizeof(Wide)), aligned(4), may_alias));
constexpr int kWideLanes = sizeof(Wide) / sizeof(float);

inline Wide load_wide(const float* from) { return *reinterpret_cast<const WideAnywhere*>(from); }
inline WideInts load_wide(const int32_t* from) { return *reinterpret_cast<const WideIntsAnywhere*>(from); }
inline void store_wide(float* to, Wide value) { *reinterpret_cast<WideAnywhere*>(to) = value; }
inline void store_wide(int32_t* to, WideInts value) { *reinterpret_cast<WideIntsAnywhere*>(to) = value; }
// The same number in every lane. `Wide{} + value` would add a zero to it, and lose the sign of -0.
inline Wide wide(float value) {
#ifdef PERFQ_WIDE
  return Wide{value, value, value, value, value, value, value, value, value, value, value, value, value, value, value, value};
#else
  return all(value);
#endif
}
inline WideInts wide(int32_t value) { return WideInts{} + value; }

// For what is written once for both: the same number in every lane of a V, which is Vec or Wide, and its lanes as integers.
template <class V>
inline V every(float value) {
  if constexpr (sizeof(V) == sizeof(Wide)) {
    return wide(value);
  } else {
    return all(value);
  }
}
template <class V>
using IntsOf = decltype(V{} < V{});

// The first `count` of the lanes; the rest reads as zero and is not written.
inline Vec load_some(const float* from, int count) {
  float lanes[kLanes] = {};
  for (int lane = 0; lane < count; ++lane) lanes[lane] = from[lane];
  return load(lanes);
}
inline Wide load_some_wide(const float* from, int count) {
#ifdef __AVX512F__
  return (Wide)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
#else
  float lanes[kWideLanes] = {};
  for (int lane = 0; lane < count; ++lane) lanes[lane] = from[lane];
  return load_wide(lanes);
#endif
}
inline void store_some(float* to, Vec value, int count) {
  float lanes[kLanes];
  store(lanes, value);
  for (int lane = 0; lane < count; ++lane) to[lane] = lanes[lane];
}

// Tells the address sanitizer, where there is one, that assembly reads or writes these bytes: it does not see that itself. It
// keeps account of eight at a time.
inline void seen([[maybe_unused]] const void* at, [[maybe_unused]] int64_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  const char* first = static_cast<const char*>(at);
  for (int64_t byte = 0; byte < bytes; byte += 8) asm volatile("" ::"r"(first[byte]));
  asm volatile("" ::"r"(first[bytes - 1]));
#endif
}

// Asks for some bytes, a share at each call of `fetch` or `during`. While one panel of weights is multiplied the next is on its
// way: a small batch would else wait for memory at every panel. May ask for a few lines beyond the last.
struct Ahead {
  static constexpr int64_t kLine = 64;
  // A core waits for two dozen lines at a time and stands still at one more; asking within a loop costs it 3 %.
  static constexpr int64_t kAtOnce = 16;

  Ahead(const void* from, int64_t bytes, int64_t shares)
      : at(reinterpret_cast<uintptr_t>(from)), left(bytes / kLine), lines((left + shares - 1) / shares) {}

  void fetch() { fetch(lines); }

  // The same where a loop of `steps` follows: a share of many lines is left to the loop, one a step from the address returned on;
  // null where the loop has none to ask for.
  const char* during(int64_t steps) {
    if (lines <= kAtOnce) fetch();
    if (lines <= kAtOnce || left <= 0) return nullptr;
    if (lines > steps) fetch(lines - steps);
    const char* first = reinterpret_cast<const char*>(at);
    at += steps * kLine;
    left -= steps;
    return first;
  }

  uintptr_t at;
  int64_t left, lines;

 private:
  void fetch(int64_t count) {
    for (int64_t line = 0; line < count; ++line, at += kLine) __builtin_prefetch(reinterpret_cast<const void*>(at), 0, 2);
    left -= count;
  }
};

// Of two numbers; NaN in either gives NaN, so that a broken model is not hidden by a clamp.
inline float larger(float a, float b) { return a > b || a != a ? a : b; }
inline float smaller(float a, float b) { return a < b || a != a ? a : b; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// max(a, b) and min(a, b) lane by lane; where `b` is NaN the result is NaN, as the instructions do it.
inline Vec maximum(Vec a, Vec b) {
#ifdef __AVX2__
  return (Vec)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
inline Vec minimum(Vec a, Vec b) {
#ifdef __AVX2__
  return (Vec)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}

#ifdef PERFQ_WIDE
inline Vec first_half(Wide v) { return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7); }
inline Vec second_half(Wide v) { return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15); }
inline Wide maximum(Wide a, Wide b) {
#ifdef __AVX512F__
  return (Wide)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return a > b ? a : b;
#endif
}
inline Wide minimum(Wide a, Wide b) {
#ifdef __AVX512F__
  return (Wide)_mm512_min_ps((__m512)a, (__m512)b);
#else
  return a < b ? a : b;
#endif
}
#endif

// Of all lanes. highest and lowest may pass over a NaN; who needs to know looks for it elsewhere.
#ifdef __AVX2__
inline float sum(Vec v) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
  const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
inline float highest(Vec v) {
  const __m128 half = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
  const __m128 pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}
#else
inline float sum(Vec v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }
inline float highest(Vec v) {
  float best = v[0];
  for (int lane = 1; lane < kLanes; ++lane) best = larger(best, v[lane]);
  return best;
}
#endif
#ifdef PERFQ_WIDE  // the eight sums of two halves first: what two sums of eight floats each come to
inline float sum(Wide v) { return sum(first_half(v) + second_half(v)); }
inline float highest(Wide v) { return highest(maximum(first_half(v), second_half(v))); }
#endif
template <class V>
inline float lowest(V v) {
  return -highest(-v);
}

inline Vec floats(Ints v) { return __builtin_convertvector(v, Vec); }
#ifdef PERFQ_WIDE
inline Wide floats(WideInts v) { return __builtin_convertvector(v, Wide); }
#endif
// Nearest integer, ties to even, of |v| < 2^22: adding 1.5 * 2^23 leaves it in the low bits of the mantissa.
template <class V>
inline IntsOf<V> nearest(V v) {
  return (IntsOf<V>)(v + every<V>(12582912.0f)) - int32_t{0x4B400000};
}

// 2^x for x <= 0, relative error under 2e-7; under 2^-126 it gives 2^-126, which no softmax can tell from zero. NaN gives NaN,
// whatever its bits are: where the exponent was added to those, a NaN of a damaged file became a number.
template <class V>
inline V exp2_negative(V x) {
  const V shift = every<V>(12582912.0f + 127.0f);  // leaves the exponent in the low bits of the mantissa as a float has it
  x = maximum(every<V>(-126.0f), x);
  const V moved = x + shift;
  const V f = x - (moved - shift);  // in [-0.5, 0.5]
  // Minimax of 2^f in relative error, 6.9e-8, degree 5.
  V p = every<V>(1.33527250e-3f);
  p = p * f + every<V>(9.67188633e-3f);
  p = p * f + every<V>(5.55044897e-2f);
  p = p * f + every<V>(2.40222299e-1f);
  p = p * f + every<V>(6.93147219e-1f);
  p = p * f + every<V>(1.0f);
  return p * (V)((IntsOf<V>)moved << 23);
}

}  // namespace PERFQ_ISA
}  // namespace perfq
