// The one floating point inner loop: R rows times 16 columns, over the depth. linear.cpp and attention.cpp block around it.
#pragma once

#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {

constexpr int kTileRows = 6;  // 6 x 2 accumulators, 2 columns of b and a broadcast fill 15 of 16 registers
constexpr int kTileColumns = 16;
constexpr int kPackedStep = 8;  // floats from one depth to the next of packed rows

// Rows in tiles as even as can be: 32 rows are 6, 6, 5, 5, 5, 5 and not five times 6 and a slow 2, whose few sums would wait
// for each other.
struct Tiles {
  explicit Tiles(int64_t rows, int64_t most = kTileRows) : count((rows + most - 1) / most), rows(rows) {}
  int64_t begin(int64_t tile) const { return tile * (rows / count) + smaller(tile, rows % count); }
  int size(int64_t tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }

  int64_t count, rows;
};

// c[r][0..16) = start + sum over k of a(r, k) b[k][0..16).
//
// a(r, k) is a[k * 8 + r] when kPacked, else a[r * a_stride + k]. b: [depth][16], one panel. start: c itself when
// kAccumulate, else `bias` [16], or zero without one.
template <int R, bool kPacked, bool kAccumulate>
inline void tile(const float* a, int64_t a_stride, const float* b, int64_t depth, const float* bias, float* c,
                 int64_t c_stride) {
  Vec sums[R][2];
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      sums[r][v] = kAccumulate ? load(c + r * c_stride + v * kLanes) : bias ? load(bias + v * kLanes) : all(0.0f);
    }
  }
#pragma GCC unroll 2
  for (int64_t k = 0; k < depth; ++k) {
    const Vec left = load(b + k * kTileColumns), right = load(b + k * kTileColumns + kLanes);
    PERFQ_UNROLL
    for (int r = 0; r < R; ++r) {
      const Vec x = all(kPacked ? a[k * kPackedStep + r] : a[r * a_stride + k]);
      sums[r][0] += x * left;
      sums[r][1] += x * right;
    }
  }
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < 2; ++v) store(c + r * c_stride + v * kLanes, sums[r][v]);
  }
}

template <bool kPacked, bool kAccumulate>
inline void tile_rows(int rows, const float* a, int64_t a_stride, const float* b, int64_t depth, const float* bias,
                      float* c, int64_t c_stride) {
  switch (rows) {
    case 1: return tile<1, kPacked, kAccumulate>(a, a_stride, b, depth, bias, c, c_stride);
    case 2: return tile<2, kPacked, kAccumulate>(a, a_stride, b, depth, bias, c, c_stride);
    case 3: return tile<3, kPacked, kAccumulate>(a, a_stride, b, depth, bias, c, c_stride);
    case 4: return tile<4, kPacked, kAccumulate>(a, a_stride, b, depth, bias, c, c_stride);
    case 5: return tile<5, kPacked, kAccumulate>(a, a_stride, b, depth, bias, c, c_stride);
    default: return tile<6, kPacked, kAccumulate>(a, a_stride, b, depth, bias, c, c_stride);
  }
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

}  // namespace PERFQ_ISA
}  // namespace perfq
