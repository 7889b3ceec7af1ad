// The inner loops of INT8 by the dot product of bytes: R rows times 32 columns, over a run of the depth (16 for w8a8 by vectors of
// 32 bytes). What tile_int8.h is for processors without it, to the last bit: four products at a time are exact, so all bits cost
// the same.
#pragma once

#include "launch.h"
#include "vnni.h"

namespace perfq {
namespace PERFQ_ISA {

// Elements of a row that lie side by side in a tile, before those of the next row.
constexpr int kGathered = 8;
// Two instructions a cycle with a latency of 4 or 5 want so many sums that do not wait for each other.
constexpr int kInFlight = 10;

// Weights of four along the depth, a column a lane; `quad` counts fours from w on. Two vectors at a time: with them and an
// activation the sums of kRows rows are 27 of 32 registers by vectors of 64 bytes, and 15 of 16 by vectors of 32.
constexpr int kVectors = 2;
constexpr int kRows = PERFQ_VNNI == 64 ? 12 : 6;

struct Quads {  // packed so: what w8a7 and w7a7 are
  static constexpr int kPanel = kInt8Panel, kColumns = kInt8Panel;
  static void load(const int8_t* w, int64_t, int quad, Sums (&to)[kVectors]) {
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) to[v] = load_sums(w + quad * 4 * kPanel + v * sizeof(Sums));
  }
  static void sort(Sums (&)[kVectors]) {}
};

typedef int16_t Words __attribute__((vector_size(PERFQ_VNNI)));

struct Pairs {  // packed in twos, 16 columns side by side: what w8a8 is
  static constexpr int kPanel = kInt8Panel / 2, kColumns = kVectors * kSums;
#if PERFQ_VNNI == 64
  // 16 columns, and the 16 that lie `next` bytes behind them.
  static void load(const int8_t* w, int64_t next, int quad, Sums (&to)[kVectors]) {
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const Words pairs = (Words)load_sums(w + v * next + quad * 4 * kPanel);
      to[v] = (Sums)__builtin_shufflevector(pairs, pairs, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25,
                                            10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
  }
  static void sort(Sums (&)[kVectors]) {}
#else
  // Columns in the order that `sort` undoes: within 128 bits is where two vectors are woven cheaply.
  static void load(const int8_t* w, int64_t, int quad, Sums (&to)[kVectors]) {
    const Words first = (Words)load_sums(w + quad * 4 * kPanel), second = (Words)load_sums(w + (quad * 4 + 2) * kPanel);
    to[0] = (Sums)__builtin_shufflevector(first, second, 0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27);
    to[1] = (Sums)__builtin_shufflevector(first, second, 4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31);
  }
  // Columns 0..3 and 8..11, 4..7 and 12..15 in order, or back.
  static void sort(Sums (&v)[kVectors]) {
    const Sums first = __builtin_shufflevector(v[0], v[1], 0, 1, 2, 3, 8, 9, 10, 11);
    v[1] = __builtin_shufflevector(v[0], v[1], 4, 5, 6, 7, 12, 13, 14, 15);
    v[0] = first;
  }
#endif
};

template <Bits kBits>
struct Shape {
  using Element = uint8_t;  // of a quantized row
  using Weights = Quads;
  static constexpr int kRows = perfq::PERFQ_ISA::kRows, kColumns = Weights::kColumns, kPanel = Weights::kPanel;
  static constexpr int32_t kLevels = 127;
  static constexpr bool kEven = true;  // rows are shared out evenly over tiles
};
template <>
struct Shape<Bits::kW8A8> {
  using Element = uint8_t;
  using Weights = Pairs;
  static constexpr int kRows = perfq::PERFQ_ISA::kRows, kColumns = Weights::kColumns, kPanel = Weights::kPanel;
  static constexpr int32_t kLevels = 255;
  static constexpr bool kEven = true;
};

inline Sums broadcast4(const uint8_t* from) {
  int32_t four;
  memcpy(&four, from, sizeof four);
  return Sums{} + four;
}

// Two vectors of columns of sums [R][columns]. Few rows have two sums for each output, so that enough are in flight. Not inlined:
// see tile_int8.h.
template <int R, class Weights, bool kAsks>
__attribute__((noinline)) void columns(const uint8_t* x, const int8_t* w, int64_t next, int64_t depth, bool carry,
                                       const char* asked, int32_t* sums) {
  constexpr int kStride = Weights::kColumns;
  constexpr int kWays = R * kVectors < kInFlight && 2 * R <= kRows ? 2 : 1;
  Sums total[kWays][R][kVectors] = {};
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    if (!carry) continue;
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) total[0][r][v] = load_sums(sums + r * kStride + v * kSums);
    Weights::sort(total[0][r]);
  }
  for (int64_t k = 0; k < depth; k += kGathered, x += R * kGathered, w += Weights::kPanel * kGathered) {
    if constexpr (kAsks) {
      __builtin_prefetch(asked, 0, 2);
      asked += Ahead::kLine;
    }
    PERFQ_UNROLL
    for (int quad = 0; quad < kGathered / 4; ++quad) {
      Sums by[kVectors];
      Weights::load(w, next, quad, by);
      PERFQ_UNROLL
      for (int r = 0; r < R; ++r) {
        const Sums a = broadcast4(x + r * kGathered + quad * 4);
        PERFQ_UNROLL
        for (int v = 0; v < kVectors; ++v) total[quad % kWays][r][v] = dot(total[quad % kWays][r][v], a, by[v]);
      }
    }
  }
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) total[0][r][v] += kWays == 2 ? total[kWays - 1][r][v] : Sums{};
    Weights::sort(total[0][r]);
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) store_sums(sums + r * kStride + v * kSums, total[0][r][v]);
  }
}

// sums [R][columns] of x, [depth / 8][R][8] elements, and w, one panel (and the one `next` bytes behind it); added to what is
// there when `carry`.
template <int R, class Weights>
inline void tile(const uint8_t* x, const int8_t* w, int64_t next, int64_t depth, bool carry, const char* asked, int32_t* sums) {
  for (int column = 0; column < Weights::kColumns; column += kVectors * kSums, asked = nullptr) {
    if (asked) {
      columns<R, Weights, true>(x, w + column * 4, next, depth, carry, asked, sums + column);
    } else {
      columns<R, Weights, false>(x, w + column * 4, next, depth, carry, nullptr, sums + column);
    }
  }
}

template <Bits kBits, int R = kRows>
void tile_rows(int rows, const uint8_t* x, const int8_t* w, int64_t next, int64_t depth, bool carry, Ahead& ahead, int32_t* sums) {
  if constexpr (R > 1) {
    if (rows < R) return tile_rows<kBits, R - 1>(rows, x, w, next, depth, carry, ahead, sums);
  }
  tile<R, typename Shape<kBits>::Weights>(x, w, next, depth, carry, ahead.during(depth / kGathered), sums);
}

}  // namespace PERFQ_ISA
}  // namespace perfq
