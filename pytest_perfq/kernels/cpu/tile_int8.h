// The inner loops of INT8: R rows times 32 columns (16 in w8a8), over a run of the depth. linear_int8.cpp blocks around them.
//
// A multiply-add of bytes (vpmaddubsw) adds two products in int16, saturating:
//   w8a8  2 * 255 * 127 = 64770 does not fit 32767, so bytes are widened and vpmaddwd multiplies int16 pairs;
//   w8a7  127 times four weights fits where these add up to 258 or less, which packing has made sure of: two vpmaddubsw are
//         added in int16, and one vpmaddwd by ones widens to int32;
//   w7a7  the same with eight weights, of 63 at most: four vpmaddubsw before the one vpmaddwd.
// That is 4, 3 and 2.5 multiplies for 64 products of bytes: the multiplier's limit of this loop.
#pragma once

#include "launch.h"
#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {

// Elements of a row that lie side by side in a tile, before those of the next row.
constexpr int kGathered = 8;

template <Bits kBits>
struct Shape {
  using Element = uint8_t;  // of a quantized row
  static constexpr int kRows = 2, kVectors = 4, kColumns = kVectors * kLanes, kPanel = kColumns;
  static constexpr int32_t kLevels = 127;
  static constexpr bool kEven = false;  // the last tile has what rows are left
};
// Widening the weights costs a load port and wants more rows to serve.
template <>
struct Shape<Bits::kW8A8> {
  using Element = int16_t;
  static constexpr int kRows = 6, kVectors = 2, kColumns = kVectors * kLanes, kPanel = kColumns;
  static constexpr int32_t kLevels = 255;
  static constexpr bool kEven = false;
};

#ifdef __AVX2__
// The sums of products are pieces of assembly: GCC would do all products first and push the sums out of the registers, and the
// order that it finds for bytes takes a sixth longer.

// total += a * w in pairs: two products a column.
inline void add_two(__m256i& total, __m256i a, __m256i w) {
  __m256i products;
  asm("vpmaddwd %[w], %[a], %[p]\n\tvpaddd %[p], %[t], %[t]" : [t] "+x"(total), [p] "=&x"(products) : [a] "x"(a), [w] "x"(w));
}

using Bytes = int8_t[32];
// The weights of 8 columns, 4 of each; `group` counts fours along the depth.
inline const Bytes& weights(const int8_t* w, int group) { return *reinterpret_cast<const Bytes*>(w + group * 4 * 32); }

// total += eight products a column, four in each of two int16: for two vectors of columns at once, whose multiplies fill the cycles
// that the sums wait.
inline void add_eight(__m256i& left, __m256i& right, const __m256i (&a)[2], const int8_t* w, __m256i ones) {
  __m256i sum, other, products;
  for (int group = 0; group < 2; ++group) seen(weights(w, group), 64);
  asm("vpmaddubsw %[w0], %[a0], %[s]\n\t"
      "vpmaddubsw %[w1], %[a1], %[p]\n\tvpaddw %[p], %[s], %[s]\n\t"
      "vpmaddubsw %[v0], %[a0], %[o]\n\t"
      "vpmaddubsw %[v1], %[a1], %[p]\n\tvpaddw %[p], %[o], %[o]\n\t"
      "vpmaddwd %[ones], %[s], %[s]\n\tvpmaddwd %[ones], %[o], %[o]\n\t"
      "vpaddd %[s], %[l], %[l]\n\tvpaddd %[o], %[r], %[r]"
      : [l] "+x"(left), [r] "+x"(right), [s] "=&x"(sum), [o] "=&x"(other), [p] "=&x"(products)
      : [a0] "x"(a[0]), [a1] "x"(a[1]), [ones] "x"(ones), [w0] "m"(weights(w, 0)), [w1] "m"(weights(w, 1)),
        [v0] "m"(weights(w + 32, 0)), [v1] "m"(weights(w + 32, 1)));
}

// total += sixteen products a column, eight in each of two int16. They are summed as a tree, which waits less than a chain.
inline void add_sixteen(__m256i& total, const __m256i (&a)[4], const int8_t* w, __m256i ones) {
  __m256i sum, other, products;
  for (int group = 0; group < 4; ++group) seen(weights(w, group), 32);
  asm("vpmaddubsw %[w0], %[a0], %[s]\n\t"
      "vpmaddubsw %[w1], %[a1], %[p]\n\tvpaddw %[p], %[s], %[s]\n\t"
      "vpmaddubsw %[w2], %[a2], %[p]\n\t"
      "vpmaddubsw %[w3], %[a3], %[o]\n\tvpaddw %[o], %[p], %[p]\n\tvpaddw %[p], %[s], %[s]\n\t"
      "vpmaddwd %[ones], %[s], %[s]\n\tvpaddd %[s], %[t], %[t]"
      : [t] "+x"(total), [s] "=&x"(sum), [o] "=&x"(other), [p] "=&x"(products)
      : [a0] "x"(a[0]), [a1] "x"(a[1]), [a2] "x"(a[2]), [a3] "x"(a[3]), [ones] "x"(ones), [w0] "m"(weights(w, 0)),
        [w1] "m"(weights(w, 1)), [w2] "m"(weights(w, 2)), [w3] "m"(weights(w, 3)));
}

inline __m256i broadcast4(const void* from) {
  int32_t four;
  memcpy(&four, from, sizeof four);
  return _mm256_set1_epi32(four);
}
inline __m256i widened16(const int8_t* from) {
  return _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
}

// One step of the depth: total += x, [step / 8][R][8] elements, times w, [step][columns].
template <int R, Bits kBits>
inline void add_step(const typename Shape<kBits>::Element* x, const int8_t* w, __m256i (&total)[R][Shape<kBits>::kVectors]) {
  constexpr int kVectors = Shape<kBits>::kVectors;
  if constexpr (kBits == Bits::kW8A8) {
    PERFQ_UNROLL
    for (int pair = 0; pair < 4; ++pair) {
      __m256i wide[kVectors];
      PERFQ_UNROLL
      for (int v = 0; v < kVectors; ++v) wide[v] = widened16(w + pair * 32 + v * 16);
      PERFQ_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m256i a = broadcast4(x + r * kGathered + pair * 2);
        PERFQ_UNROLL
        for (int v = 0; v < kVectors; ++v) add_two(total[r][v], a, wide[v]);
      }
    }
  } else {
    constexpr int kGroups = int8_depth(kBits) / 4;
    const __m256i ones = _mm256_set1_epi16(1);
    PERFQ_UNROLL
    for (int r = 0; r < R; ++r) {
      __m256i a[kGroups];
      PERFQ_UNROLL
      for (int g = 0; g < kGroups; ++g) a[g] = broadcast4(x + (g / 2 * R + r) * kGathered + g % 2 * 4);
      if constexpr (kBits == Bits::kW7A7) {
        PERFQ_UNROLL
        for (int v = 0; v < kVectors; ++v) add_sixteen(total[r][v], a, w + v * 32, ones);
      } else {
        PERFQ_UNROLL
        for (int v = 0; v < kVectors; v += 2) add_eight(total[r][v], total[r][v + 1], a, w + v * 32, ones);
      }
    }
  }
}

// sums [R][columns] of x, [depth / 8][R][8] elements, and w, one panel; added to what is there when `carry`. kAsks: for a line a
// step, from `next` on. Not inlined, so that the loop stands alone in a profile and its registers do not depend on the caller.
template <int R, Bits kBits, bool kAsks>
__attribute__((noinline)) void sum_tile(const typename Shape<kBits>::Element* x, const int8_t* w, int64_t depth, bool carry,
                                        const char* next, int32_t* sums) {
  constexpr int kVectors = Shape<kBits>::kVectors, kStep = int8_depth(kBits);
  __m256i total[R][kVectors];
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      total[r][v] = carry ? (__m256i)load(sums + (r * kVectors + v) * kLanes) : _mm256_setzero_si256();
    }
  }
  for (int64_t k = 0; k < depth; k += kStep, x += R * kStep, w += Shape<kBits>::kColumns * kStep) {
    if constexpr (kAsks) {
      __builtin_prefetch(next, 0, 2);
      next += Ahead::kLine;
    }
    add_step<R, kBits>(x, w, total);
  }
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) store(sums + (r * kVectors + v) * kLanes, (Ints)total[r][v]);
  }
}
template <int R, Bits kBits>
void tile(const typename Shape<kBits>::Element* x, const int8_t* w, int64_t depth, bool carry, const char* next, int32_t* sums) {
  next ? sum_tile<R, kBits, true>(x, w, depth, carry, next, sums) : sum_tile<R, kBits, false>(x, w, depth, carry, next, sums);
}
#else
template <int R, Bits kBits>
void tile(const typename Shape<kBits>::Element* x, const int8_t* w, int64_t depth, bool carry, const char*, int32_t* sums) {
  constexpr int kColumns = Shape<kBits>::kColumns, kGroup = kBits == Bits::kW8A8 ? 2 : 4;
  if (!carry) memset(sums, 0, sizeof(int32_t) * R * kColumns);
  for (int64_t k = 0; k < depth; k += kGathered) {
    for (int g = 0; g < kGathered; g += kGroup) {
      for (int r = 0; r < R; ++r) {
        for (int n = 0; n < kColumns; ++n) {
          for (int i = 0; i < kGroup; ++i) {
            sums[r * kColumns + n] += int32_t{x[r * kGathered + g + i]} * w[g * kColumns + n * kGroup + i];
          }
        }
      }
    }
    x += R * kGathered;
    w += kColumns * kGathered;
  }
}
#endif

template <Bits kBits>
void tile_rows(int rows, const typename Shape<kBits>::Element* x, const int8_t* w, int64_t, int64_t depth, bool carry,
               Ahead& ahead, int32_t* sums) {
  const char* next = ahead.during(depth / int8_depth(kBits));
  if constexpr (Shape<kBits>::kRows == 6) {
    if (rows == 6) return tile<6, kBits>(x, w, depth, carry, next, sums);
    if (rows == 5) return tile<5, kBits>(x, w, depth, carry, next, sums);
    if (rows == 4) return tile<4, kBits>(x, w, depth, carry, next, sums);
    if (rows == 3) return tile<3, kBits>(x, w, depth, carry, next, sums);
  }
  if (rows == 2) return tile<2, kBits>(x, w, depth, carry, next, sums);
  tile<1, kBits>(x, w, depth, carry, next, sums);
}

}  // namespace PERFQ_ISA
}  // namespace perfq
