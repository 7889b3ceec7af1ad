// A row of a tensor in the registers of one warp or of several: reading, writing, its range, its bytes. Knows no norm and no
// activation.
#pragma once

#include "device.cuh"

namespace perfq::cuda {

constexpr int kRowsPerBlock = 4;  // where a row is one warp's
constexpr float kF8Most = 448.0f;
constexpr float kMostFloat = 3.402823466e38f;

// Of V values side by side those that one load or store of at most 16 bytes moves.
template <class T, int V>
constexpr int kAtOnce = V * sizeof(T) < kVectorBytes ? V : kVectorBytes / static_cast<int>(sizeof(T));

// V values that lie side by side, by loads of at most 16 bytes: body(number, value) for each.
template <int V, class T, class Body>
__device__ __forceinline__ void read(const T* from, Body body) {
  constexpr int kTogether = kAtOnce<T, V>;
#pragma unroll
  for (int first = 0; first < V; first += kTogether) {
    const Vector<T, kTogether> values = load<kTogether>(from + first);
#pragma unroll
    for (int v = 0; v < kTogether; ++v) body(first + v, values.at[v]);
  }
}

// The same for stores: body(number) gives the value.
template <int V, class T, class Body>
__device__ __forceinline__ void write(T* to, Body body) {
  constexpr int kTogether = kAtOnce<T, V>;
#pragma unroll
  for (int first = 0; first < V; first += kTogether) {
    Vector<T, kTogether> values;
#pragma unroll
    for (int v = 0; v < kTogether; ++v) values.at[v] = body(first + v);
    store(to + first, values);
  }
}

// A thread holds N values of a row that WARPS warps share, as runs of V that lie one thread after the other. V divides the size
// of the row; what is held beyond the row is never looked at.
template <int V, int N, int WARPS>
struct Row {
  static_assert(N % V == 0);
  static constexpr int kThreads = (WARPS == 1 ? kRowsPerBlock : WARPS) * kWarp;  // of a block
  static constexpr size_t kSharedBytes = WARPS == 1 ? 0 : 2 * WARPS * sizeof(float);
  static constexpr int kMostSize = N * WARPS * kWarp;

  float at[N];

  static unsigned blocks(int64_t rows) {
    return static_cast<unsigned>(WARPS == 1 ? (rows + kRowsPerBlock - 1) / kRowsPerBlock : rows);
  }
  // The row of this warp, or of this block; it may lie behind the last one.
  static __device__ __forceinline__ int64_t mine() {
    return WARPS == 1 ? int64_t{blockIdx.x} * kRowsPerBlock + warp() : int64_t{blockIdx.x};
  }
  // Of a row's threads the one that writes what there is once a row.
  static __device__ __forceinline__ bool first() { return WARPS == 1 ? lane() == 0 : threadIdx.x == 0; }

  // body(number of the run's first value, its column) for each run of V within the row.
  template <class Body>
  static __device__ __forceinline__ void runs(int size, Body body) {
    const int thread = WARPS == 1 ? lane() : static_cast<int>(threadIdx.x);
#pragma unroll
    for (int one = 0; one < N; one += V) {
      const int column = (one / V * WARPS * kWarp + thread) * V;
      if (column < size) body(one, column);
    }
  }

  // body(value) for each value of the row.
  template <class Body>
  __device__ __forceinline__ void each(int size, Body body) {
    runs(size, [&](int one, int) {
#pragma unroll
      for (int v = 0; v < V; ++v) body(at[one + v]);
    });
  }

  template <class T>
  __device__ __forceinline__ void add(const T* from, int size) {
    runs(size, [&](int one, int column) { read<V>(from + column, [&](int v, T value) { at[one + v] += to_float(value); }); });
  }

  // Rounds the row to T where it stands: bytes are made of what the next layer reads as its residual.
  template <class T>
  __device__ __forceinline__ void put(T* to, int size) {
    runs(size, [&](int one, int column) {
      write<V>(to + column, [&](int v) {
        const T rounded = from_float<T>(at[one + v]);
        at[one + v] = to_float(rounded);
        return rounded;
      });
    });
  }

  template <class T>
  static __device__ __forceinline__ void fill(T* to, int size, float value) {
    runs(size, [&](int, int column) { write<V>(to + column, [&](int) { return from_float<T>(value); }); });
  }

  template <class Q, class Convert>
  __device__ __forceinline__ void put_bytes(Q* to, int size, Convert convert) const {
    runs(size, [&](int one, int column) { write<V>(to + column, [&](int v) { return convert(at[one + v]); }); });
  }

  // The extremes of the row and zero. high is infinite where a value is no finite number: fmaxf alone forgets a NaN.
  struct Range {
    float low, high;
    __device__ __forceinline__ bool finite() const { return high <= kMostFloat; }
  };
  // scratch: 2 WARPS floats of shared memory that nobody uses again for this row.
  __device__ __forceinline__ Range range(int size, float* scratch) {
    float high = 0.0f, below = 0.0f;
    bool finite = true;
    each(size, [&](float value) {
      high = fmaxf(high, value);
      below = fmaxf(below, -value);
      finite = finite && fabsf(value) <= kMostFloat;
    });
    high = warp_reduce<Max>(finite ? high : INFINITY);
    below = warp_reduce<Max>(below);
    if (WARPS > 1) {
      if (lane() == 0) {
        scratch[2 * warp()] = high;
        scratch[2 * warp() + 1] = below;
      }
      __syncthreads();
#pragma unroll
      for (int one = 0; one < WARPS; ++one) {
        high = fmaxf(high, scratch[2 * one]);
        below = fmaxf(below, scratch[2 * one + 1]);
      }
    }
    return {-below, high};
  }

  // The row in levels of its own range, as row number `row`. A byte cannot say that a value is no number: the scale does.
  __device__ __forceinline__ void put_levels(const RowLevels& to, int64_t row, int size, float* scratch) {
    const Range found = range(size, scratch);
    const RowScale as = row_scale(found.low, found.high, to.levels);
    const float inverse = found.finite() ? 1.0f / as.scale : 0.0f;
    const int32_t levels = to.levels;
    put_bytes(to.q + row * size, size, [=](float x) { return to_levels(x, inverse, as.zero, levels); });
    if (first()) {
      to.scale[row] = found.finite() ? as.scale : NAN;
      to.zero[row] = as.zero;
    }
  }

  // The same in f8.
  __device__ __forceinline__ void put_f8(const RowF8& to, int64_t row, int size, float* scratch) {
    const Range found = range(size, scratch);
    const float most = fmaxf(found.high, -found.low);
    const float scale = !found.finite() ? NAN : most / kF8Most > 0.0f ? most / kF8Most : 1.0f;
    const float inverse = 1.0f / scale;
    put_bytes(static_cast<f8*>(to.q) + row * size, size, [=](float x) { return from_float<f8>(x * inverse); });
    if (first()) to.scale[row] = scale;
  }
};

// A type as an argument, for launchers that choose a Row.
template <class R>
struct Chosen {
  using Row = R;
};

}  // namespace perfq::cuda
