// Whole tensors to uint8 and back by one scale and zero, and the largest magnitude of every column.
//
// Bytes moved: T and a byte a value; for the magnitudes T alone.

#include "row.cuh"

namespace perfq::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTogether = 8;  // values of a thread
constexpr int kLines = 8;     // warps of a block of absmax, each with rows of its own
constexpr int kRows = 16;     // of a thread of absmax: a thirty-second as many atomics as rows at most

// The values of this thread: kTogether, or at the end of the tensor fewer.
struct Share {
  int64_t first;
  int count;
};
__device__ __forceinline__ Share share(int64_t count) {
  const int64_t first = (int64_t{blockIdx.x} * kThreads + static_cast<int>(threadIdx.x)) * kTogether;
  return {first, static_cast<int>(max(int64_t{0}, min(int64_t{kTogether}, count - first)))};
}

template <class T>
__global__ void __launch_bounds__(kThreads) quantize(Quantize a) {
  const Share mine = share(a.count);
  const T* x = static_cast<const T*>(a.x) + mine.first;
  uint8_t* q = a.q + mine.first;
  const float inverse = 1.0f / *a.as.scale;
  const int32_t zero = *a.as.zero, levels = a.levels;
  if (mine.count == kTogether) {
    float values[kTogether];
    read<kTogether>(x, [&](int v, T value) { values[v] = to_float(value); });
    write<kTogether>(q, [&](int v) { return to_levels(values[v], inverse, zero, levels); });
  } else {
    for (int one = 0; one < mine.count; ++one) q[one] = to_levels(to_float(x[one]), inverse, zero, levels);
  }
}

__device__ __forceinline__ float to_value(uint8_t level, int32_t zero, float scale) {
  return static_cast<float>(static_cast<int32_t>(level) - zero) * scale;
}

__global__ void __launch_bounds__(kThreads) dequantize(Dequantize a) {
  const Share mine = share(a.count);
  const uint8_t* q = a.q + mine.first;
  float* y = a.y + mine.first;
  const float scale = *a.as.scale;
  const int32_t zero = *a.as.zero;
  if (mine.count == kTogether) {
    float values[kTogether];
    read<kTogether>(q, [&](int v, uint8_t level) { values[v] = to_value(level, zero, scale); });
    write<kTogether>(y, [&](int v) { return values[v]; });
  } else {
    for (int one = 0; one < mine.count; ++one) y[one] = to_value(q[one], zero, scale);
  }
}

// Magnitudes are compared as the ints of their bits: these rise with them, and NaN is the largest.
template <class T, int V>
__global__ void __launch_bounds__(kLines* kWarp) absmax(AbsMax a) {
  const int64_t column = (int64_t{blockIdx.y} * kWarp + lane()) * V;
  const int64_t first = int64_t{blockIdx.x} * (kLines * kRows) + warp();
  if (column >= a.size || first >= a.rows) return;
  const T* x = static_cast<const T*>(a.x) + column;
  int most[V] = {};
#pragma unroll 4
  for (int one = 0; one < kRows; ++one) {
    const int64_t row = first + one * kLines;
    if (row < a.rows) {
      read<V>(x + row * a.size, [&](int v, T value) { most[v] = max(most[v], __float_as_int(fabsf(to_float(value)))); });
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) atomicMax(reinterpret_cast<int*>(a.most) + column + v, most[v]);
}

unsigned blocks(int64_t count) {
  constexpr int64_t kShare = int64_t{kThreads} * kTogether;
  return static_cast<unsigned>((count + kShare - 1) / kShare);
}

template <class T>
int launch_quantize(const Quantize& a, void* stream) {
  return PERFQ_LAUNCH(quantize<T>, blocks(a.count), kThreads, 0, stream, a);
}

template <class T, int V>
int launch_absmax(const AbsMax& a, void* stream) {
  const dim3 grid(static_cast<unsigned>((a.rows + kLines * kRows - 1) / (kLines * kRows)),
                  static_cast<unsigned>((a.size + kWarp * V - 1) / (kWarp * V)));
  return PERFQ_LAUNCH((absmax<T, V>), grid, kLines * kWarp, 0, stream, a);
}

template <class T>
int choose_absmax(const AbsMax& a, void* stream) {
  return goes_wide<T>(a.size) ? launch_absmax<T, wide<T>()>(a, stream) : launch_absmax<T, 1>(a, stream);
}

}  // namespace

extern "C" int perfq_cuda_quantize(const Quantize* a, void* stream) {
  if (a->count == 0) return 0;
  return by_type(a->type, [=]<class T>() { return launch_quantize<T>(*a, stream); });
}

extern "C" int perfq_cuda_dequantize(const Dequantize* given, void* stream) {
  if (given->count == 0) return 0;
  const Dequantize a = *given;
  return PERFQ_LAUNCH(dequantize, blocks(a.count), kThreads, 0, stream, a);
}

extern "C" int perfq_cuda_absmax(const AbsMax* a, void* stream) {
  if (a->rows == 0 || a->size == 0) return 0;
  return by_type(a->type, [=]<class T>() { return choose_absmax<T>(*a, stream); });
}

}  // namespace perfq::cuda
