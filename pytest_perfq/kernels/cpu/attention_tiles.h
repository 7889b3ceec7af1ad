// Queries, keys and values as the tiles of AMX take them: bfloat16, 16 rows of 64 bytes, tile after tile.
//
// Beside the functions of amx.h all is the compiler's vectors, so that it runs where those are played; an instruction stands
// where the compiler would not find it.
#pragma once

#include "amx.h"

namespace perfq {
namespace PERFQ_ISA {

constexpr int kTmm = kTmmRows * kTmmBytes;           // bytes
constexpr int kTmmDepth = kTmmBytes / 2;             // bfloat16 of a row
constexpr int kTmmFloats = kTmmBytes / sizeof(float);

// The multiplier of tiles falls asleep where it has had nothing to do for 1,200 to 2,000 cycles, and takes 900 to wake. One
// product, into a tile that nobody needs, keeps it awake in the middle of other work; but for some 500 cycles after an
// instruction of tiles those of 64-byte vectors are issued at half the rate, so that longer work does better to let it sleep.
inline void stay_awake() {
#ifndef PERFQ_PLAYED_AMX
  tmm_zero<0>();  // else it would wait for the last one
  tmm_dot_bf16<0, 6, 7>();
#endif
}

typedef float Row __attribute__((vector_size(64)));
typedef int32_t RowInts __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(64)));
typedef float RowAnywhere __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t HalvesAnywhere __attribute__((vector_size(64), aligned(4), may_alias));

inline Row load_row(const float* from) { return *reinterpret_cast<const RowAnywhere*>(from); }
inline void store(float* to, Row value) { *reinterpret_cast<RowAnywhere*>(to) = value; }
inline void store(uint8_t* to, Halves value) { *reinterpret_cast<HalvesAnywhere*>(to) = value; }
inline Row row(float v) { return Row{v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v}; }

// The first `count` floats, a multiple of eight that may be beyond 16 or below zero; the rest reads as zero.
inline Row load_row(const float* from, int64_t count) {
  if (count >= kTmmFloats) return load_row(from);
  const Vec first = count > 0 ? load(from) : all(0.0f);
  return __builtin_shufflevector(first, all(0.0f), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

// 32 floats as bfloat16, nearest, ties to even. Denormals become zeros, and NaN stays NaN: Intel's manual, volume 2,
// VCVTNE2PS2BF16.
#ifdef __AVX512BF16__
inline Halves rounded(Row first, Row last) { return (Halves)_mm512_cvtne2ps_pbh((__m512)last, (__m512)first); }
#else
inline Halves rounded(Row first, Row last) {
  const auto high = [](Row value) {  // in the upper half of each lane
    const RowInts bits = (RowInts)value, sign = bits & (-0x7FFFFFFF - 1);
    const RowInts nearest = bits + 0x7FFF + (bits >> 16 & 1);
    const RowInts normal = (bits & 0x7F800000) == 0 ? sign : nearest;
    return (Halves)(value != value ? bits | 0x400000 : normal);
  };
  return __builtin_shufflevector(high(first), high(last), 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37,
                                 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63);
}
#endif

// 16 rows of 16 pairs of bfloat16, transposed.
inline void transpose(Halves (&rows)[16]) {
  RowInts a[16], b[16];
  PERFQ_UNROLL
  for (int i = 0; i < 16; i += 2) {
    const RowInts even = (RowInts)rows[i], odd = (RowInts)rows[i + 1];
    a[i] = __builtin_shufflevector(even, odd, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    a[i + 1] = __builtin_shufflevector(even, odd, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  PERFQ_UNROLL
  for (int i = 0; i < 16; i += 4) {
    PERFQ_UNROLL
    for (int j = 0; j < 2; ++j) {  // b[i + c]: of each four columns, column c of rows i to i + 3
      const RowInts top = a[i + j], bottom = a[i + j + 2];
      b[i + 2 * j] = __builtin_shufflevector(top, bottom, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      b[i + 2 * j + 1] = __builtin_shufflevector(top, bottom, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  }
  PERFQ_UNROLL
  for (int c = 0; c < 4; ++c) {
    PERFQ_UNROLL
    for (int half = 0; half < 2; ++half) {  // of the columns
      RowInts upper, lower;                 // of the rows
      if (half == 0) {
        upper = __builtin_shufflevector(b[c], b[c + 4], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        lower = __builtin_shufflevector(b[c + 8], b[c + 12], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
      } else {
        upper = __builtin_shufflevector(b[c], b[c + 4], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
        lower = __builtin_shufflevector(b[c + 8], b[c + 12], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
      }
      rows[8 * half + c] =
          (Halves)__builtin_shufflevector(upper, lower, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
      rows[8 * half + c + 4] =
          (Halves)__builtin_shufflevector(upper, lower, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    }
  }
}

// Rows that lie `stride` floats apart, `size` numbers each, a multiple of eight. What a tile has beyond them is zero.
struct RowsAt {
  const float* at;
  int64_t stride, count, size;
};

// 32 floats, of which `left` are there: all of them where kWhole.
template <bool kWhole>
inline Halves rounded(const float* from, int64_t left, Row factor) {
  const float* last = from + kTmmFloats;
  if (kWhole) return rounded(load_row(from) * factor, load_row(last) * factor);
  return rounded(load_row(from, left) * factor, load_row(last, left - kTmmFloats) * factor);
}

// Up to 16 rows as the left factor: tile s, `step` bytes behind the last one, has columns [32 s, 32 s + 32) of them times
// `factor`. Rows beyond them are left as they are.
template <bool kWhole>
inline void pack_left(const RowsAt& rows, float factor, uint8_t* to, int64_t step) {
  for (int64_t depth = 0; depth < rows.size; depth += kTmmDepth, to += step) {
    const float* from = rows.at + depth;
    for (int64_t r = 0; r < rows.count; ++r, from += rows.stride) {
      store(to + r * kTmmBytes, rounded<kWhole>(from, rows.size - depth, row(factor)));
    }
  }
}

// Up to 16 rows as the right factor, transposed: tile s has [pair of columns 32 s + 2 p][row][2].
template <bool kWhole>
inline void pack_transposed(const RowsAt& rows, uint8_t* to) {
  for (int64_t depth = 0; depth < rows.size; depth += kTmmDepth) {
    const float* from = rows.at + depth;
    const int64_t left = rows.size - depth;
    Halves block[kTmmRows];
    if (rows.count == kTmmRows) {
      PERFQ_UNROLL
      for (int r = 0; r < kTmmRows; ++r) block[r] = rounded<kWhole>(from + r * rows.stride, left, row(1.0f));
    } else {
      for (int r = 0; r < kTmmRows; ++r) {
        block[r] = r < rows.count ? rounded<kWhole>(from + r * rows.stride, left, row(1.0f)) : Halves{};
      }
    }
    transpose(block);
    PERFQ_UNROLL
    for (int r = 0; r < kTmmRows; ++r, to += kTmmBytes) store(to, block[r]);
  }
}

// Two rows of 16 columns as pairs, one of the first and one of the second.
inline Halves paired(Row first, Row second) {
  const Halves both = rounded(first, second);
  return __builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11,
                                 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// Up to 32 rows as the right factor, as they are: tile j, `step` bytes behind the last one, has [pair of rows][column 16 j +
// c][2] and, behind the last column, one of ones.
inline void pack_with_ones(const RowsAt& rows, uint8_t* to, int64_t step) {
  for (int64_t column = 0; column <= rows.size; column += kTmmFloats, to += step) {
    const float* from = rows.at + column;
    const int64_t left = rows.size - column;
    if (rows.count == kTmmDepth && left >= kTmmFloats) {
      PERFQ_UNROLL
      for (int r = 0; r < kTmmRows; ++r, from += 2 * rows.stride) {
        store(to + r * kTmmBytes, paired(load_row(from), load_row(from + rows.stride)));
      }
      continue;
    }
    Row ones = row(0.0f);
    if (left < kTmmFloats) ones[left] = 1.0f;
    const auto some = [&](int64_t r) {
      return r < rows.count ? load_row(rows.at + r * rows.stride + column, left) + ones : row(0.0f);
    };
    for (int64_t r = 0; r < kTmmRows; ++r) store(to + r * kTmmBytes, paired(some(2 * r), some(2 * r + 1)));
  }
}

// body<0>(), body<1>() ... body<kCount - 1>().
template <int kCount, int I = 0, class Body>
inline __attribute__((always_inline)) void each(const Body& body) {
  if constexpr (I < kCount) {
    body.template operator()<I>();
    each<kCount, I + 1>(body);
  }
}

struct Factor {  // tiles: of the left one those of 16 rows are `next` bytes apart, of the right one those of 16 columns
  const uint8_t* at;
  int64_t next, step, stride;  // `step` from one depth to the next, `stride` from row to row
};

// c[16 kRows][16 kColumns], rows c_stride floats apart, = its own numbers where kCarry, + left right over `steps` of 32 of the
// depth.
template <int kRows, int kColumns, bool kCarry>
inline void multiply(const Factor& left, const Factor& right, int64_t steps, float* c, int64_t c_stride) {
  static_assert(kRows * kColumns <= 6);
  constexpr int kLeft = 6, kRight = 7;
  const int64_t bytes = c_stride * sizeof(float);
  const auto sums = [&]<int I>() { return c + I / kColumns * kTmmRows * c_stride + I % kColumns * kTmmColumns; };
  each<kRows * kColumns>([&]<int I>() {
    if constexpr (kCarry) {
      tmm_load<I>(sums.template operator()<I>(), bytes);
    } else {
      tmm_zero<I>();
    }
  });
  const uint8_t *x = left.at, *w = right.at;
  for (int64_t s = 0; s < steps; ++s, x += left.step, w += right.step) {
    each<kRows>([&]<int R>() {
      tmm_load<kLeft>(x + R * left.next, left.stride);
      each<kColumns>([&]<int C>() {
        tmm_load<kRight>(w + C * right.next, right.stride);
        tmm_dot_bf16<R * kColumns + C, kLeft, kRight>();
      });
    });
  }
  each<kRows * kColumns>([&]<int I>() { tmm_store<I>(sums.template operator()<I>(), bytes); });
}

}  // namespace PERFQ_ISA
}  // namespace perfq
