// The inner loop of bfloat16: R rows times 32 columns over the depth, two products a lane. linear_bf16.cpp blocks around it.
//
// Only `dot` needs the unit (avx512_bf16). All else here and in linear_bf16.cpp is the compiler's vectors, so that the tests play
// that one instruction (PERFQ_PLAYED_DOT names a header with a `dot` of its own) and run the rest as it stands.
#pragma once

#include "simd.h"
#include "tile.h"

namespace perfq {
namespace PERFQ_ISA {

constexpr int kPairLanes = 16;
// 8 x 2 sums are twice what hides the latency of the instruction; with 2 vectors of w and a broadcast they fill 19 of 32 registers.
constexpr int kPairRows = 8;
constexpr int kPairVectors = 2;
constexpr int kPairColumns = kPairVectors * kPairLanes;

typedef float Sums __attribute__((vector_size(64)));
// Two bfloat16 a lane, the earlier of the depth in the lower half.
typedef uint32_t Pairs __attribute__((vector_size(64)));
typedef float SumsAnywhere __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t PairsAnywhere __attribute__((vector_size(64), aligned(4), may_alias));

inline Sums load_sums(const float* from) { return *reinterpret_cast<const SumsAnywhere*>(from); }
inline void store(float* to, Sums value) { *reinterpret_cast<SumsAnywhere*>(to) = value; }
inline Pairs load_pairs(const uint32_t* from) { return *reinterpret_cast<const PairsAnywhere*>(from); }

}  // namespace PERFQ_ISA
}  // namespace perfq

#ifdef __AVX512BF16__
namespace perfq {
namespace PERFQ_ISA {

// sums + the two products of each lane: first the later one of the pair, then the earlier, each added with one rounding to nearest
// even; denormals are zeros, given and made. Intel's manual, volume 2, VDPBF16PS.
inline Sums dot(Sums sums, Pairs x, Pairs w) { return (Sums)_mm512_dpbf16_ps((__m512)sums, (__m512bh)x, (__m512bh)w); }

}  // namespace PERFQ_ISA
}  // namespace perfq
#else
#include PERFQ_PLAYED_DOT
#endif

namespace perfq {
namespace PERFQ_ISA {

// Of eight floats, nearest, ties to even, in the upper half of each lane; the lower one is to be ignored. NaN stays NaN, also where
// only bits below the upper half say that it is one.
inline Ints to_bf16(Vec value) {
  const Ints bits = (Ints)value;
  const Ints rounded = bits + all(int32_t{0x7FFF}) + ((bits >> 16) & all(int32_t{1}));
  return value != value ? bits | all(int32_t{0x400000}) : rounded;
}

// Sixteen floats, the first and the last eight of them, as eight pairs.
inline Vec to_pairs(Vec first, Vec last) {
  typedef uint32_t Words __attribute__((vector_size(32)));
  const Words earlier = (Words)to_bf16(__builtin_shufflevector(first, last, 0, 2, 4, 6, 8, 10, 12, 14));
  const Words later = (Words)to_bf16(__builtin_shufflevector(first, last, 1, 3, 5, 7, 9, 11, 13, 15));
  return (Vec)(earlier >> 16 | (later & (Words)all(int32_t{-0x10000})));
}

// Up to sixteen floats; an element beyond them is zero.
inline Vec to_pairs(const float* from, int count) {
  const int first = count < kLanes ? count : kLanes;
  return to_pairs(load_some(from, first), load_some(from + first, count - first));
}

// to[p * 8 + r] = elements 2 p and 2 p + 1 of row r < rows <= 8, for 2 p < depth; an element beyond the depth is zero.
inline void pack_pairs(const float* from, int64_t from_stride, int rows, int64_t depth, uint32_t* to) {
  Vec block[8];
  const auto store_block = [&](int count) {
    transpose(block);
    for (int p = 0; p < count; ++p, to += kPairRows) store(reinterpret_cast<int32_t*>(to), (Ints)block[p]);
  };
  int64_t k = 0;
  for (; k + 2 * kLanes <= depth; k += 2 * kLanes) {
    const float* row = from + k;
    if (rows == 8) {
      PERFQ_UNROLL
      for (int r = 0; r < 8; ++r, row += from_stride) block[r] = to_pairs(load(row), load(row + kLanes));
    } else {
      for (int r = 0; r < 8; ++r, row += from_stride) block[r] = r < rows ? to_pairs(load(row), load(row + kLanes)) : all(0.0f);
    }
    store_block(8);
  }
  if (k == depth) return;
  const int left = static_cast<int>(depth - k);
  for (int r = 0; r < 8; ++r) block[r] = r < rows ? to_pairs(from + r * from_stride + k, left) : all(0.0f);
  store_block((left + 1) / 2);
}

// c[r][0..32) = start + sum over p < pairs of x[p * 8 + r] w[p][0..32), where start is c itself when kCarry, else `bias` [32]. Not
// inlined, so that the loop stands alone in a profile and its registers do not depend on the caller.
template <int R, bool kCarry>
__attribute__((noinline)) void tile_pairs(const uint32_t* x, const uint32_t* w, int64_t pairs, const float* bias, float* c,
                                          int64_t c_stride) {
  Sums sums[R][kPairVectors];
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < kPairVectors; ++v) {
      sums[r][v] = load_sums((kCarry ? c + r * c_stride : bias) + v * kPairLanes);
    }
  }
  for (int64_t p = 0; p < pairs; ++p, x += kPairRows, w += kPairColumns) {
    const Pairs left = load_pairs(w), right = load_pairs(w + kPairLanes);
    PERFQ_UNROLL
    for (int r = 0; r < R; ++r) {
      const Pairs both = Pairs{} + x[r];
      sums[r][0] = dot(sums[r][0], both, left);
      sums[r][1] = dot(sums[r][1], both, right);
    }
  }
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < kPairVectors; ++v) store(c + r * c_stride + v * kPairLanes, sums[r][v]);
  }
}

template <bool kCarry>
void tile_pairs_rows(int rows, const uint32_t* x, const uint32_t* w, int64_t pairs, const float* bias, float* c,
                     int64_t c_stride) {
  switch (rows) {
    case 1: return tile_pairs<1, kCarry>(x, w, pairs, bias, c, c_stride);
    case 2: return tile_pairs<2, kCarry>(x, w, pairs, bias, c, c_stride);
    case 3: return tile_pairs<3, kCarry>(x, w, pairs, bias, c, c_stride);
    case 4: return tile_pairs<4, kCarry>(x, w, pairs, bias, c, c_stride);
    case 5: return tile_pairs<5, kCarry>(x, w, pairs, bias, c, c_stride);
    case 6: return tile_pairs<6, kCarry>(x, w, pairs, bias, c, c_stride);
    case 7: return tile_pairs<7, kCarry>(x, w, pairs, bias, c, c_stride);
    default: return tile_pairs<8, kCarry>(x, w, pairs, bias, c, c_stride);
  }
}

}  // namespace PERFQ_ISA
}  // namespace perfq
