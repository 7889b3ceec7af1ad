// Rows of floats as levels: what linear_int8 multiplies where it is given floats. A block takes a row: its extremes, then its
// levels.
//
// Bytes moved: a value of T in, which is read again from L1 or L2, and a byte out. Where a kernel already makes the levels
// beside what it computes (add_layernorm_levels, bias_activation_levels), linear_levels takes them and this one is not needed.

#include "device.cuh"

namespace perfq::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;

// A row that is not finite has scale NaN, and so has every output of it: a uint8 could not say so.
__device__ __forceinline__ RowScale scale_of(float low, float high, const QuantizeRows& a) {
  const float poison = (high - low) - (high - low);
  const RowScale own = a.as.scale ? RowScale{*a.as.scale, *a.as.zero} : row_scale(low, high, a.levels);
  return {own.scale + poison, own.zero};
}

template <class T, int V>
__global__ void __launch_bounds__(kThreads) quantize_rows(QuantizeRows a) {
  PERFQ_SHARED(shared);
  float* scratch = reinterpret_cast<float*>(shared);
  const int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(a.x) + row * a.size;
  uint8_t* q = a.q + row * a.stride;
  const int size = static_cast<int>(a.size), stride = static_cast<int>(a.stride), first = static_cast<int>(threadIdx.x) * V;
  float high = Max::kNeutral, low = Max::kNeutral;  // of the row, and of its negative
  for (int at = first; at < size; at += kThreads * V) {
    const Vector<T, V> values = load<V>(x + at);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const float value = to_float(values.at[v]);
      const bool finite = value - value == 0.0f;  // else the row is infinitely wide
      high = fmaxf(high, finite ? value : __int_as_float(0x7f800000));
      low = fmaxf(low, -value);
    }
  }
  high = block_reduce<Max, kWarps>(high, scratch);
  low = -block_reduce<Max, kWarps>(low, scratch);
  const RowScale as = scale_of(low, high, a);
  const float inverse = 1.0f / as.scale;
  for (int at = first; at < stride; at += kThreads * V) {
    Vector<uint8_t, V> levels = {};
    if (at < size) {
      const Vector<T, V> values = load<V>(x + at);
#pragma unroll
      for (int v = 0; v < V; ++v) levels.at[v] = to_levels(to_float(values.at[v]), inverse, as.zero, a.levels);
    }
    store(q + at, levels);
  }
  if (threadIdx.x == 0) {
    a.scale[row] = as.scale;
    a.zero[row] = as.zero;
  }
}

template <class T>
int choose(const QuantizeRows& a, void* stream) {
  const unsigned blocks = static_cast<unsigned>(a.rows);
  if (goes_wide<T>(a.size)) {
    return PERFQ_LAUNCH((quantize_rows<T, kVectorBytes / sizeof(T)>), blocks, kThreads, kWarps * sizeof(float), stream, a);
  }
  return PERFQ_LAUNCH((quantize_rows<T, 1>), blocks, kThreads, kWarps * sizeof(float), stream, a);
}

}  // namespace

extern "C" int perfq_cuda_quantize_rows(const QuantizeRows* a, void* stream) {
  if (a->rows == 0) return 0;
  return by_type(a->type, [=]<class T>() { return choose<T>(*a, stream); });
}

}  // namespace perfq::cuda
