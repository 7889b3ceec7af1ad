// LayerNorm of a row that lies in registers, and the Row that suits a size.
#pragma once

#include "row.cuh"

namespace perfq::cuda {

// Mean and variance by two passes over registers: a row far from zero keeps its variance. scratch: as block_reduce has it.
template <class T, int V, int N, int WARPS>
__device__ __forceinline__ void normalize(Row<V, N, WARPS>& row, int size, const T* weight, const T* bias, float eps,
                                          float* scratch) {
  float sum = 0.0f;
  row.each(size, [&](float value) { sum += value; });
  const float mean = block_reduce<Sum, WARPS>(sum, scratch) / static_cast<float>(size);
  float squares = 0.0f;
  row.each(size, [&](float& value) {
    value -= mean;
    squares += value * value;
  });
  const float variance = block_reduce<Sum, WARPS>(squares, scratch) / static_cast<float>(size);
  const float inverse = 1.0f / sqrtf(variance + eps);
  row.runs(size, [&](int one, int column) {
    read<V>(weight + column, [&](int v, T value) { row.at[one + v] *= inverse * to_float(value); });
    read<V>(bias + column, [&](int v, T value) { row.at[one + v] += to_float(value); });
  });
}

// launch(Chosen<Row>) with the Row of fewest registers that holds `size` values: BERT's sizes 384, 768 and 1024 are one warp's.
// Rows that no vector divides are rare, and one Row serves them all.
template <int V, class Launch>
int with_row(int64_t size, Launch launch) {
  if constexpr (V > 1) {
    if (size <= Row<V, 8, 1>::kMostSize) return launch(Chosen<Row<V, 8, 1>>());
    if (size <= Row<V, 16, 1>::kMostSize) return launch(Chosen<Row<V, 16, 1>>());
    if (size <= Row<V, 24, 1>::kMostSize) return launch(Chosen<Row<V, 24, 1>>());
    if (size <= Row<V, 32, 1>::kMostSize) return launch(Chosen<Row<V, 32, 1>>());
    if (size <= Row<V, 32, 4>::kMostSize) return launch(Chosen<Row<V, 32, 4>>());
  }
  return launch(Chosen<Row<V, 32, 8>>());
}

}  // namespace perfq::cuda
