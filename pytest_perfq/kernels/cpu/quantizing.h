// Floats to uint8 and back, many at a time: q = round(x / scale) + zero, clamped to 0..levels.
#pragma once

#include "launch.h"
#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {

// How one row is quantized. The scale of a row that holds a NaN is NaN, and with it every output of the row: a uint8 cannot
// say so itself.
struct RowScale {
  float scale;
  int32_t zero;
};

inline Ints clamp(Ints v, int32_t levels) {
#ifdef __AVX2__
  const __m256i low = _mm256_max_epi32((__m256i)v, _mm256_setzero_si256());
  return (Ints)_mm256_min_epi32(low, _mm256_set1_epi32(levels));
#else
  v = v < all(int32_t{0}) ? all(int32_t{0}) : v;
  return v > all(levels) ? all(levels) : v;
#endif
}

// Within +-2^21, where `nearest` is right and far outside every clamp. NaN becomes 0 here: the scale carries it.
inline Ints quantized(Vec x, Vec inverse, Ints zero, int32_t levels) {
  const Vec limit = all(2097152.0f);
  const Vec scaled = minimum(maximum(x * inverse, -limit), limit);
  return clamp(nearest(scaled) + zero, levels);
}

// The low bytes of eight ints, in order.
inline void store_bytes(uint8_t* to, Ints v) {
#ifdef __AVX2__
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
#else
  for (int lane = 0; lane < kLanes; ++lane) to[lane] = static_cast<uint8_t>(v[lane]);
#endif
}
inline void store_words(int16_t* to, Ints v) {
#ifdef __AVX2__
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), words);
#else
  for (int lane = 0; lane < kLanes; ++lane) to[lane] = static_cast<int16_t>(v[lane]);
#endif
}
inline Ints load_bytes(const uint8_t* from) {
#ifdef __AVX2__
  return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#else
  Ints v;
  for (int lane = 0; lane < kLanes; ++lane) v[lane] = from[lane];
  return v;
#endif
}

// The range of a row widened to hold 0, in `levels` steps.
inline RowScale row_scale(const float* x, int64_t size, int32_t levels) {
  constexpr int kWays = 4;  // so many chains hide the latency of an addition
  Wide low[kWays], high[kWays], poison[kWays];
  for (int i = 0; i < kWays; ++i) low[i] = high[i] = poison[i] = wide(0.0f);
  const auto see = [&](int way, Wide v) {
    low[way] = minimum(low[way], v);
    high[way] = maximum(high[way], v);
    poison[way] += v * wide(0.0f);  // NaN where v is not finite: the instructions for min and max forget it
  };
  int64_t k = 0;
  for (; k + kWays * kWideLanes <= size; k += kWays * kWideLanes) {
    PERFQ_UNROLL
    for (int way = 0; way < kWays; ++way) see(way, load_wide(x + k + way * kWideLanes));
  }
  for (; k + kWideLanes <= size; k += kWideLanes) see(0, load_wide(x + k));
  if (k < size) see(1, load_some_wide(x + k, static_cast<int>(size - k)));
  const float least = lowest(minimum(minimum(low[0], low[1]), minimum(low[2], low[3])));
  const float range = highest(maximum(maximum(high[0], high[1]), maximum(high[2], high[3]))) - least;
  const float scale = range > 0.0f ? range / static_cast<float>(levels) : 1.0f;
  return {scale + sum((poison[0] + poison[1]) + (poison[2] + poison[3])), clamp(nearest(all(-least / scale)), levels)[0]};
}

#ifdef __AVX2__
// 32 at a time: q = clamp(round(x * inverse) + zero), as bytes in order.
inline __m256i quantized32(const float* x, __m256 inverse, __m256i zero, __m256i levels) {
  const __m256 limit = _mm256_set1_ps(1e6f);  // beyond every clamp, and within int32; far below saturates by itself
  __m256i v[4];
  PERFQ_UNROLL
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_cvtps_epi32(_mm256_min_ps(limit, _mm256_mul_ps(_mm256_loadu_ps(x + i * kLanes), inverse)));
  }
  const __m256i left = _mm256_adds_epi16(_mm256_packs_epi32(v[0], v[1]), zero);
  const __m256i right = _mm256_adds_epi16(_mm256_packs_epi32(v[2], v[3]), zero);
  const __m256i bytes = _mm256_min_epu8(_mm256_packus_epi16(left, right), levels);
  // Packing went by halves of 128 bits.
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
#endif

#ifdef __AVX512F__
// 64 at a time, in the same way.
inline __m512i quantized64(const float* x, float inverse, int32_t zero, int32_t levels) {
  __m512i v[4];
  PERFQ_UNROLL
  for (int i = 0; i < 4; ++i) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + i * kWideLanes), _mm512_set1_ps(inverse));
    v[i] = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(1e6f), scaled));
  }
  const __m512i zeros = _mm512_set1_epi16(static_cast<int16_t>(zero));
  const __m512i left = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zeros);
  const __m512i right = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zeros);
  const __m512i bytes = _mm512_min_epu8(_mm512_packus_epi16(left, right), _mm512_set1_epi8(static_cast<char>(levels)));
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), bytes);
}
#endif

inline void put(uint8_t* to, Ints v) { store_bytes(to, v); }
inline void put(int16_t* to, Ints v) { store_words(to, v); }

// A row of floats as groups of eight elements, one every `step`; with a step of eight they lie as they come. Elements beyond the
// row may be anything: weights are zero there.
template <class T>
inline void quantize_spread(const float* x, int64_t size, RowScale as, int32_t levels, T* to, int64_t step) {
  const float inverse = 1.0f / as.scale;
  int64_t k = 0;
#ifdef __AVX2__
  const __m256i zeros = _mm256_set1_epi16(static_cast<int16_t>(as.zero));
  const __m256i tops = _mm256_set1_epi8(static_cast<char>(levels));
#ifdef __AVX512F__
  if constexpr (sizeof(T) == 1) {
    for (; k + 4 * kWideLanes <= size; k += 4 * kWideLanes, to += 8 * step) {
      const __m512i q = quantized64(x + k, inverse, as.zero, levels);
      if (step == kLanes) {
        _mm512_storeu_si512(to, q);
        continue;
      }
      const __m128i four[] = {_mm512_castsi512_si128(q), _mm512_extracti32x4_epi32(q, 1), _mm512_extracti32x4_epi32(q, 2),
                              _mm512_extracti32x4_epi32(q, 3)};
      PERFQ_UNROLL
      for (int i = 0; i < 4; ++i) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 2 * i * step), four[i]);
        _mm_storeh_pd(reinterpret_cast<double*>(to + (2 * i + 1) * step), _mm_castsi128_pd(four[i]));
      }
    }
  }
#endif
  for (; k + 4 * kLanes <= size; k += 4 * kLanes) {
    alignas(32) uint8_t bytes[4 * kLanes];
    const __m256i q = quantized32(x + k, _mm256_set1_ps(inverse), zeros, tops);
    if (sizeof(T) == 1 && step == kLanes) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), q);
    } else if constexpr (sizeof(T) == 1) {
      const __m128i low = _mm256_castsi256_si128(q), high = _mm256_extracti128_si256(q, 1);
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to), low);
      _mm_storeh_pd(reinterpret_cast<double*>(to + step), _mm_castsi128_pd(low));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 2 * step), high);
      _mm_storeh_pd(reinterpret_cast<double*>(to + 3 * step), _mm_castsi128_pd(high));
    } else {
      _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), q);
      for (int i = 0; i < 4; ++i) {
        const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + i * kLanes));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i * step), _mm_cvtepu8_epi16(eight));
      }
    }
    to += 4 * step;
  }
#endif
  for (; k + kLanes <= size; k += kLanes, to += step) put(to, quantized(load(x + k), all(inverse), all(as.zero), levels));
  if (k < size) put(to, quantized(load_some(x + k, static_cast<int>(size - k)), all(inverse), all(as.zero), levels));
}

inline Vec dequantized(Ints q, const Quantized& as) { return floats(q - all(as.zero)) * all(as.scale); }

inline void dequantize_row(const uint8_t* from, int64_t size, const Quantized& as, float* to) {
  int64_t k = 0;
#ifdef __AVX512F__
  for (; k + kWideLanes <= size; k += kWideLanes) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + k));
    store_wide(to + k, floats((WideInts)_mm512_cvtepu8_epi32(bytes) - as.zero) * wide(as.scale));
  }
#endif
  for (; k + kLanes <= size; k += kLanes) store(to + k, dequantized(load_bytes(from + k), as));
  for (; k < size; ++k) to[k] = static_cast<float>(from[k] - as.zero) * as.scale;
}

inline void quantize_row(const float* from, int64_t size, const Quantized& as, uint8_t* to) {
  const int64_t whole = size / kLanes * kLanes;
  quantize_spread(from, whole, {as.scale, as.zero}, as.levels, to, kLanes);
  if (whole == size) return;
  const int count = static_cast<int>(size - whole);
  uint8_t bytes[kLanes];
  store_bytes(bytes, quantized(load_some(from + whole, count), all(1.0f / as.scale), all(as.zero), as.levels));
  for (int lane = 0; lane < count; ++lane) to[whole + lane] = bytes[lane];
}

}  // namespace PERFQ_ISA
}  // namespace perfq
