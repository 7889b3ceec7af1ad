// What every CUDA kernel here stands on: types, launches, vectors, sums over a warp or a block. No torch.
//
// Under PERFQ_EMULATED the tests' emulation.h stands for CUDA's headers: the same sources are then run thread by thread on a
// CPU, where barriers, shuffles and tensor core products mean what NVIDIA's documents say. So kernels keep to what stands
// here and in tensorcore.cuh, and all their shared memory is dynamic: it is poisoned before each emulated block.
#pragma once

#include <cstdint>

#include "launch.h"

#ifdef PERFQ_EMULATED
#include "emulation.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#define PERFQ_LAUNCH(kernel, grid, block, shared, stream, ...)                            \
  (kernel<<<(grid), (block), (shared), static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__), \
   static_cast<int>(cudaGetLastError()))
// More than 48 KiB of shared memory is granted to a kernel by name.
#define PERFQ_ALLOW_SHARED(kernel, bytes) \
  static_cast<int>(cudaFuncSetAttribute((kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)))
#define PERFQ_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

namespace perfq::cuda {
using f16 = __half;
using bf16 = __nv_bfloat16;
using f8 = __nv_fp8_e4m3;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(f16 value) { return __half2float(value); }
__device__ __forceinline__ float to_float(bf16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_float(f8 value) { return static_cast<float>(value); }
// Nearest, ties to even; f8 saturates at 448.
template <class T> __device__ __forceinline__ T from_float(float value);
template <> __device__ __forceinline__ float from_float<float>(float value) { return value; }
template <> __device__ __forceinline__ f16 from_float<f16>(float value) { return __float2half_rn(value); }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float value) { return __float2bfloat16_rn(value); }
template <> __device__ __forceinline__ f8 from_float<f8>(float value) { return f8(value); }
}  // namespace perfq::cuda
#endif

namespace perfq::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kVectorBytes = 16;  // the widest load of one thread

// N values that are loaded and stored at once; the address is a multiple of their size.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T at[N];
};

template <int N, class T>
__device__ __forceinline__ Vector<T, N> load(const T* from) {
  return *reinterpret_cast<const Vector<T, N>*>(from);
}

template <int N, class T>
__device__ __forceinline__ void store(T* to, const Vector<T, N>& values) {
  *reinterpret_cast<Vector<T, N>*>(to) = values;
}

// Values of T that one thread moves at once where `size`, the length of a row, allows it, else 1. Tensors of torch begin at
// multiples of 16 bytes, so rows of a multiple of this many values do too; bindings copy views that do not.
template <class T>
constexpr int wide() {
  return kVectorBytes / static_cast<int>(sizeof(T));
}
template <class T>
inline bool goes_wide(int64_t size) {
  return size % wide<T>() == 0;
}

// launch<T>() for the type of a call's float tensors.
template <class Launch>
inline int by_type(Type type, Launch launch) {
  switch (type) {
    case Type::kF32: return launch.template operator()<float>();
    case Type::kF16: return launch.template operator()<f16>();
    default: return launch.template operator()<bf16>();
  }
}

__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp() { return static_cast<int>(threadIdx.x) / kWarp; }

struct Sum {
  __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
  static constexpr float kNeutral = 0.0f;
};
struct Max {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
  static constexpr float kNeutral = -3.402823466e38f;
};

// Of all lanes, in all lanes.
template <class How>
__device__ __forceinline__ float warp_reduce(float value) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) value = How()(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

// Of all threads of a block of WARPS warps, in all threads. scratch: WARPS floats of shared memory, free again on return.
template <class How, int WARPS>
__device__ __forceinline__ float block_reduce(float value, float* scratch) {
  value = warp_reduce<How>(value);
  if (WARPS == 1) return value;
  if (lane() == 0) scratch[warp()] = value;
  __syncthreads();
  float found = How::kNeutral;
#pragma unroll
  for (int one = 0; one < WARPS; ++one) found = How()(found, scratch[one]);
  __syncthreads();
  return found;
}

__device__ __forceinline__ float activate(float x, Activation how) {
  switch (how) {
    case Activation::kRelu: return x > 0.0f || x != x ? x : 0.0f;  // NaN stays NaN
    case Activation::kTanh: return tanhf(x);
    case Activation::kGelu: return x * 0.5f * (1.0f + erff(x * 0.70710678118654752f));
    case Activation::kGeluTanh: return x * 0.5f * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    default: return x;
  }
}

// round(x / scale) + zero within 0..levels, ties to even. x is a number.
__device__ __forceinline__ uint8_t to_levels(float x, float inverse_scale, int32_t zero, int32_t levels) {
  constexpr float kFar = 1e6f;  // beyond every level, and far from where an int ends
  const int32_t level = __float2int_rn(fminf(fmaxf(x * inverse_scale, -kFar), kFar)) + zero;
  return static_cast<uint8_t>(min(max(level, 0), levels));
}

// How a row whose extremes are `low` and `high` lies within 0..levels: zero is among its values (ONNX's DynamicQuantizeLinear).
struct RowScale {
  float scale;
  int32_t zero;
};
__device__ __forceinline__ RowScale row_scale(float low, float high, int32_t levels) {
  low = fminf(low, 0.0f);
  high = fmaxf(high, 0.0f);
  const float scale = (high - low) / static_cast<float>(levels);
  if (!(scale > 0.0f)) return {1.0f, 0};
  return {scale, min(max(__float2int_rn(-low / scale), 0), levels)};
}

}  // namespace perfq::cuda
