// The one floating point inner loop: R rows times the columns of one panel of 16 or of two, over the depth. linear.cpp and
// attention.cpp block around it. Sums are added up in the order of the depth, whatever the tile.
#pragma once

#include "tiles.h"

namespace perfq {
namespace PERFQ_ISA {

constexpr int kTileColumns = 16;  // of a panel
#ifdef PERFQ_WIDE
// 12 rows of two panels are 24 sums, and with 2 columns of b and a broadcast 27 of 32 registers: 14 loads for 24 multiply-adds.
// One panel alone is 13 loads for 12.
constexpr int kTileRows = 12, kTilePanels = 2;
constexpr int kPackedStep = 12;  // floats from one depth to the next of packed rows
#else
// 6 x 2 sums, 2 columns of b and a broadcast fill 15 of 16 registers.
constexpr int kTileRows = 6, kTilePanels = 1;
constexpr int kPackedStep = 8;
#endif
constexpr int kColumns = kTileColumns / kWideLanes;  // vectors of a panel

// What a tile does beside its sums: a Beside is called once in kBesideStep of the depth, up to its `until`, a multiple of that.
constexpr int kBesideStep = 4;
struct Nothing {};

// c[r][column] = start + sum over k of a(r, k) b[k][column], for 16 columns a panel.
//
// a(r, k) is a[k * kPackedStep + r] when kPacked, else a[r * a_stride + k]. b: [depth][16], and another panel `next` floats behind
// it with two. start: c itself when kAccumulate, else `bias` [16 * kPanels], or zero without one.
template <int R, int kPanels, bool kPacked, bool kAccumulate, class Beside>
inline void tile(const float* a, int64_t a_stride, const float* b, int64_t next, int64_t depth, const float* bias, float* c,
                 int64_t c_stride, Beside beside) {
  constexpr int kAcross = kPanels * kColumns;
  Wide sums[R][kAcross];
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < kAcross; ++v) {
      sums[r][v] = kAccumulate ? load_wide(c + r * c_stride + v * kWideLanes)
                   : bias      ? load_wide(bias + v * kWideLanes)
                               : Wide{};
    }
  }
  const auto add = [&](int64_t k) __attribute__((always_inline)) {
    Wide by[kAcross];
    PERFQ_UNROLL
    for (int v = 0; v < kAcross; ++v) by[v] = load_wide(b + v / kColumns * next + k * kTileColumns + v % kColumns * kWideLanes);
    PERFQ_UNROLL
    for (int r = 0; r < R; ++r) {
      const Wide x = wide(kPacked ? a[k * kPackedStep + r] : a[r * a_stride + k]);
      PERFQ_UNROLL
      for (int v = 0; v < kAcross; ++v) sums[r][v] += x * by[v];
    }
  };
  int64_t k = 0;
  if constexpr (!__is_same(Beside, Nothing)) {
    for (; k < beside.until; k += kBesideStep) {
      beside();
      PERFQ_UNROLL
      for (int i = 0; i < kBesideStep; ++i) add(k + i);
    }
  }
#pragma GCC unroll 2
  for (; k < depth; ++k) add(k);
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < kAcross; ++v) store_wide(c + r * c_stride + v * kWideLanes, sums[r][v]);
  }
}

// The tile of `rows`, from R to kTileRows.
template <int kPanels, bool kPacked, bool kAccumulate, int R = 1, class Beside = Nothing>
inline void tile_rows(int rows, const float* a, int64_t a_stride, const float* b, int64_t next, int64_t depth,
                      const float* bias, float* c, int64_t c_stride, Beside beside = {}) {
  if constexpr (R < kTileRows) {
    if (rows != R) {
      return tile_rows<kPanels, kPacked, kAccumulate, R + 1>(rows, a, a_stride, b, next, depth, bias, c, c_stride, beside);
    }
  }
  tile<R, kPanels, kPacked, kAccumulate>(a, a_stride, b, next, depth, bias, c, c_stride, beside);
}

// body<panels>(column) for every strip of as many panels as a tile takes, then for what panel is left.
template <class Body>
inline void each_strip(int64_t columns, const Body& body) {
  int64_t column = 0;
  if constexpr (kTilePanels > 1) {
    constexpr int64_t kStep = kTilePanels * kTileColumns;
    for (; column + kStep <= columns; column += kStep) body.template operator()<kTilePanels>(column);
  }
  for (; column < columns; column += kTileColumns) body.template operator()<1>(column);
}

#ifdef __AVX2__
// Eight rows of eight floats, transposed in registers.
inline void transpose(Vec (&v)[8]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps((__m256)v[i], (__m256)v[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps((__m256)v[i], (__m256)v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = (Vec)_mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    v[i + 4] = (Vec)_mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}
#else
inline void transpose(Vec (&v)[8]) {
  for (int i = 0; i < 8; ++i) {
    for (int j = i + 1; j < 8; ++j) {
      const float kept = v[i][j];
      v[i][j] = v[j][i];
      v[j][i] = kept;
    }
  }
}
#endif

// to[k * to_stride + r] = factor * from[r * from_stride + k] for r < rows <= 8 and k < depth; the other r up to 8 are zero.
inline void pack_transposed(const float* from, int64_t from_stride, int rows, int64_t depth, float factor, float* to,
                            int64_t to_stride) {
  int64_t k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
    Vec block[8];
    if (rows == 8) {
      PERFQ_UNROLL
      for (int r = 0; r < 8; ++r) block[r] = load(from + r * from_stride + k) * all(factor);
    } else {
      for (int r = 0; r < 8; ++r) block[r] = r < rows ? load(from + r * from_stride + k) * all(factor) : all(0.0f);
    }
    transpose(block);
    for (int j = 0; j < kLanes; ++j) store(to + (k + j) * to_stride, block[j]);
  }
  for (; k < depth; ++k) {
    for (int r = 0; r < 8; ++r) to[k * to_stride + r] = r < rows ? factor * from[r * from_stride + k] : 0.0f;
  }
}

// The rows of a tile: to[k * kPackedStep + r] = from[r * from_stride + k] for r < rows and k < depth. The other r may be anything.
inline void pack_tile(const float* from, int64_t from_stride, int rows, int64_t depth, float* to) {
#ifdef PERFQ_WIDE
  // Four rows by 16 of the depth at a time, transposed within each 16 bytes: these are then four rows of one depth.
  typedef float FourAnywhere __attribute__((vector_size(16), aligned(4), may_alias));
  static_assert(kPackedStep == kTileRows && kTileRows % 4 == 0 && kWideLanes == 16);
  int64_t k = 0;
  for (; k + kWideLanes <= depth; k += kWideLanes, to += kWideLanes * kPackedStep) {
    PERFQ_UNROLL
    for (int r = 0; r < kTileRows; r += 4) {
      Wide v[4];
      PERFQ_UNROLL
      for (int i = 0; i < 4; ++i) v[i] = load_wide(from + smaller(int64_t{r + i}, int64_t{rows - 1}) * from_stride + k);
      const Wide a = __builtin_shufflevector(v[0], v[1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
      const Wide b = __builtin_shufflevector(v[0], v[1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
      const Wide c = __builtin_shufflevector(v[2], v[3], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
      const Wide d = __builtin_shufflevector(v[2], v[3], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
      const Wide by_depth[] = {
          __builtin_shufflevector(a, c, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
          __builtin_shufflevector(a, c, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31),
          __builtin_shufflevector(b, d, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
          __builtin_shufflevector(b, d, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)};
      PERFQ_UNROLL
      for (int i = 0; i < 4; ++i) {
        const Wide w = by_depth[i];
        FourAnywhere* at = reinterpret_cast<FourAnywhere*>(to + i * kPackedStep + r);
        at[0] = __builtin_shufflevector(w, w, 0, 1, 2, 3);
        at[kPackedStep] = __builtin_shufflevector(w, w, 4, 5, 6, 7);
        at[2 * kPackedStep] = __builtin_shufflevector(w, w, 8, 9, 10, 11);
        at[3 * kPackedStep] = __builtin_shufflevector(w, w, 12, 13, 14, 15);
      }
    }
  }
  for (; k < depth; ++k, to += kPackedStep) {
    for (int r = 0; r < rows; ++r) to[r] = from[r * from_stride + k];
  }
#else
  static_assert(kTileRows <= kLanes);
  pack_transposed(from, from_stride, rows, depth, 1.0f, to, kPackedStep);
#endif
}

}  // namespace PERFQ_ISA
}  // namespace perfq
