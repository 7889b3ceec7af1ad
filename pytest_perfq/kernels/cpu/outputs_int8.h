// How the sums of an INT8 linear leave: less what the zero of the row adds to each, times its scales, plus the bias, activation, in
// float or bytes. And how its rows come.
#pragma once

#include "activation.h"
#include "quantizing.h"

namespace perfq {
namespace PERFQ_ISA {

// What is added and multiplied for the columns of a panel: the call's own where they are all there, else a copy, zero beyond
// the last.
template <int kColumns>
struct Columns {
  const float *scale, *bias;
  const int32_t* weight_sum;
  float kept_scale[kColumns], kept_bias[kColumns];
  int32_t kept_sum[kColumns];

  Columns() = default;
  Columns(const LinearInt8& call, int64_t first) { read(call, first); }
  Columns(const Columns&) = delete;
  Columns& operator=(const Columns&) = delete;

  void read(const LinearInt8& call, int64_t first) {
    scale = call.weight_scale + first, bias = call.bias ? call.bias + first : nullptr, weight_sum = call.weight_sum + first;
    const bool whole = first + kColumns <= call.out;
    const int64_t width = smaller(int64_t{kColumns}, call.out - first);
    if (!whole) {
      scale = copied(scale, width, kept_scale);
      weight_sum = copied(weight_sum, width, kept_sum);
    }
    if (!whole || !call.bias) bias = copied(bias, call.bias ? width : 0, kept_bias);
  }

  template <class T>
  static const T* copied(const T* from, int64_t width, T (&to)[kColumns]) {
    for (int64_t j = 0; j < kColumns; ++j) to[j] = j < width ? from[j] : T{0};
    return to;
  }
};

// How a row is taken for its sums: with the zero of its scale in every element, or without, where it was taken off ahead.
enum class Zero { kIn, kOff };

// R rows of sums [R][kColumns] of one panel, to y or y8 at `at` and `call.out` further on for each next row; width: of the columns
// that there are from the panel's first on.
template <int kColumns, int R, Zero kZero, Activation kActivation>
inline void finish(const LinearInt8& call, const int32_t* sums, const RowScale* as, const Columns<kColumns>& by, int64_t at,
                   int64_t width, const Quantized& out_as) {
  constexpr int kVectors = kColumns / kWideLanes;
  Wide value[R * kVectors];
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int j = v * kWideLanes;
      WideInts exact = load_wide(sums + r * kColumns + j);
      if constexpr (kZero == Zero::kIn) exact -= load_wide(by.weight_sum + j) * wide(as[r].zero);
      value[r * kVectors + v] = floats(exact) * (load_wide(by.scale + j) * wide(as[r].scale)) + load_wide(by.bias + j);
    }
  }
  activate<kActivation, true>(value);
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r, at += call.out) {
    if (call.y && width >= kColumns) {
      PERFQ_UNROLL
      for (int v = 0; v < kVectors; ++v) store_wide(call.y + at + v * kWideLanes, value[r * kVectors + v]);
      continue;
    }
    float row[kColumns];
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) store_wide(row + v * kWideLanes, value[r * kVectors + v]);
    const int64_t count = smaller(width, int64_t{kColumns});
    if (call.y) {
      memcpy(call.y + at, row, sizeof(float) * count);
    } else {
      quantize_row(row, count, out_as, call.y8 + at);
    }
  }
}

// How outputs in bytes are written.
inline Quantized output_as(const LinearInt8& call, int32_t levels) {
  return call.y8 ? Quantized{*call.output_scale, *call.output_zero, levels} : Quantized{};
}

// How a row of x that is float is to be quantized: by itself, or as the call says.
inline RowScale scale_of(const LinearInt8& call, const float* x, int32_t levels) {
  const RowScale own = row_scale(x, call.in, levels);
  // Of the row's own scale only its NaN is wanted, where the row is not finite.
  return call.input_scale ? RowScale{*call.input_scale + (own.scale - own.scale), *call.input_zero} : own;
}

}  // namespace PERFQ_ISA
}  // namespace perfq
