// Eight values that stand side by side in a row: what one thread reads and writes at once behind a product.
#pragma once

#include "device.cuh"

namespace perfq::cuda {

constexpr int kUnit = 8;

// How many of them one access takes.
template <class T>
constexpr int kUnitStep = sizeof(T) * kUnit < kVectorBytes ? kUnit : kVectorBytes / static_cast<int>(sizeof(T));

// The first `width` of them, and zeros. `from` is a multiple of 16 bytes where the width is eight.
template <class T, class To, class Convert>
__device__ __forceinline__ void load_unit(To (&to)[kUnit], const T* from, int width, Convert convert) {
  constexpr int kStep = kUnitStep<T>;
  if (width == kUnit) {
#pragma unroll
    for (int v = 0; v < kUnit; v += kStep) {
      const Vector<T, kStep> some = load<kStep>(from + v);
#pragma unroll
      for (int i = 0; i < kStep; ++i) to[v + i] = convert(some.at[i]);
    }
  } else {
#pragma unroll
    for (int v = 0; v < kUnit; ++v) to[v] = v < width ? convert(from[v]) : To{};
  }
}

// Writes the first `width`. aligned: whether rows begin at multiples of eight values.
template <class T>
__device__ __forceinline__ void store_unit(T* to, const T (&values)[kUnit], int width, bool aligned) {
  constexpr int kStep = kUnitStep<T>;
  if (aligned && width == kUnit) {
#pragma unroll
    for (int v = 0; v < kUnit; v += kStep) {
      Vector<T, kStep> some;
#pragma unroll
      for (int i = 0; i < kStep; ++i) some.at[i] = values[v + i];
      store(to + v, some);
    }
  } else {
#pragma unroll
    for (int v = 0; v < kUnit; ++v) {
      if (v < width) to[v] = values[v];
    }
  }
}

// Adds those of `row` from `column` on, or nothing where it is null.
template <class T>
__device__ __forceinline__ void add_unit(float (&values)[kUnit], const void* row, int64_t column, int width) {
  if (!row) return;
  float others[kUnit];
  load_unit(others, static_cast<const T*>(row) + column, width, [](T one) { return to_float(one); });
#pragma unroll
  for (int v = 0; v < kUnit; ++v) values[v] += others[v];
}

__device__ __forceinline__ void activate_unit(float (&values)[kUnit], Activation how) {
#pragma unroll
  for (int v = 0; v < kUnit; ++v) values[v] = activate(values[v], how);
}

template <class T>
__device__ __forceinline__ void round_and_store(T* to, const float (&values)[kUnit], int width, bool aligned) {
  T rounded[kUnit];
#pragma unroll
  for (int v = 0; v < kUnit; ++v) rounded[v] = from_float<T>(values[v]);
  store_unit(to, rounded, width, aligned);
}

}  // namespace perfq::cuda
