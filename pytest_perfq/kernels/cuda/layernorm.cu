// LayerNorm(x + linear_bias + residual) in one pass over memory: a row stays in the registers of one warp (up to 1024 values) or of
// eight. It can leave the row in bytes beside it, and put it where padding is.
//
// Bytes moved: three rows of T for one of output and two of input, and a byte a value where it is quantized.

#include "device.cuh"

namespace perfq::cuda {
namespace {

constexpr int kValues = 32;      // of a row that one thread holds at most
constexpr int kWideWarps = 8;    // that share a row of more than 32 * kValues values
constexpr int kRowsPerBlock = 4;  // where a row is one warp's
constexpr float kF8Most = 448.0f;

struct Row {
  float at[kValues];
};

// The value number `one` of this thread stands in column `column(one)`: runs of V, one thread after the other.
template <int V, int WARPS>
__device__ __forceinline__ int column(int one) {
  const int thread = WARPS == 1 ? lane() : static_cast<int>(threadIdx.x);
  return (one / V * WARPS * kWarp + thread) * V + one % V;
}

template <int V, int WARPS, class T>
__device__ __forceinline__ void add(Row& row, const T* from, int size) {
#pragma unroll
  for (int one = 0; one < kValues; one += V) {
    const int at = column<V, WARPS>(one);
    if (at < size) {
      const Vector<T, V> values = load<V>(from + at);
#pragma unroll
      for (int v = 0; v < V; ++v) row.at[one + v] += to_float(values.at[v]);
    }
  }
}

template <int V, int WARPS, class Body>
__device__ __forceinline__ void each(int size, Body body) {
#pragma unroll
  for (int one = 0; one < kValues; ++one) {
    if (column<V, WARPS>(one) < size) body(one);
  }
}

template <int V, int WARPS, class T>
__device__ void normalize(Row& row, const AddLayerNorm& a, float* scratch) {
  const int size = static_cast<int>(a.size);
  float sum = 0.0f;
  each<V, WARPS>(size, [&](int one) { sum += row.at[one]; });
  const float mean = block_reduce<Sum, WARPS>(sum, scratch) / static_cast<float>(size);
  float squares = 0.0f;
  each<V, WARPS>(size, [&](int one) {
    row.at[one] -= mean;
    squares += row.at[one] * row.at[one];
  });
  const float variance = block_reduce<Sum, WARPS>(squares, scratch) / static_cast<float>(size);
  const float inverse = 1.0f / sqrtf(variance + a.eps);
  const T *weight = static_cast<const T*>(a.weight), *bias = static_cast<const T*>(a.bias);
#pragma unroll
  for (int one = 0; one < kValues; one += V) {
    const int at = column<V, WARPS>(one);
    if (at < size) {
      const Vector<T, V> w = load<V>(weight + at), b = load<V>(bias + at);
#pragma unroll
      for (int v = 0; v < V; ++v) row.at[one + v] = row.at[one + v] * inverse * to_float(w.at[v]) + to_float(b.at[v]);
    }
  }
}

// Rounds the row to T where it stands: bytes are made of what the next layer reads as its residual.
template <int V, int WARPS, class T>
__device__ __forceinline__ void write(Row& row, T* to, int size) {
#pragma unroll
  for (int one = 0; one < kValues; one += V) {
    const int at = column<V, WARPS>(one);
    if (at < size) {
      Vector<T, V> values;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        values.at[v] = from_float<T>(row.at[one + v]);
        row.at[one + v] = to_float(values.at[v]);
      }
      store(to + at, values);
    }
  }
}

template <int V, int WARPS, class Q, class Convert>
__device__ __forceinline__ void write_bytes(const Row& row, Q* to, int size, Convert convert) {
#pragma unroll
  for (int one = 0; one < kValues; one += V) {
    const int at = column<V, WARPS>(one);
    if (at < size) {
      Vector<Q, V> values;
#pragma unroll
      for (int v = 0; v < V; ++v) values.at[v] = convert(row.at[one + v]);
      store(to + at, values);
    }
  }
}

template <int V, int WARPS>
__device__ void quantize(const Row& row, const AddLayerNorm& a, int64_t at, float* scratch) {
  const int size = static_cast<int>(a.size);
  float high = Max::kNeutral, low = Max::kNeutral;  // of the row, and of its negative
  each<V, WARPS>(size, [&](int one) {
    high = fmaxf(high, row.at[one]);
    low = fmaxf(low, -row.at[one]);
  });
  high = block_reduce<Max, WARPS>(high, scratch);
  low = -block_reduce<Max, WARPS>(low, scratch);
  const bool first = WARPS == 1 ? lane() == 0 : threadIdx.x == 0;
  if (a.levels.q) {
    const RowScale found = row_scale(low, high, a.levels.levels);
    const float inverse = 1.0f / found.scale;
    const int32_t levels = a.levels.levels;
    write_bytes<V, WARPS>(row, a.levels.q + at * size, size, [=](float x) { return to_levels(x, inverse, found.zero, levels); });
    if (first) {
      a.levels.scale[at] = found.scale;
      a.levels.zero[at] = found.zero;
    }
  }
  if (a.f8.q) {
    const float most = fmaxf(high, -low);
    const float scale = most > 0.0f ? most / kF8Most : 1.0f, inverse = 1.0f / scale;
    write_bytes<V, WARPS>(row, static_cast<f8*>(a.f8.q) + at * size, size, [=](float x) { return from_float<f8>(x * inverse); });
    if (first) a.f8.scale[at] = scale;
  }
}

template <class T, int V, int WARPS>
__global__ void __launch_bounds__(WARPS == 1 ? kRowsPerBlock * kWarp : WARPS * kWarp) add_layernorm(AddLayerNorm a) {
  PERFQ_SHARED(shared);
  float* scratch = reinterpret_cast<float*>(shared);
  const int64_t at = WARPS == 1 ? int64_t{blockIdx.x} * kRowsPerBlock + warp() : int64_t{blockIdx.x};
  if (at >= a.rows) return;  // whole warps
  const int size = static_cast<int>(a.size);
  const int64_t place = a.index ? a.index[at] : at;
  T* to = static_cast<T*>(a.y);
  if (place < 0) return;  // a row of the tail has no place
  Row row = {};
  add<V, WARPS>(row, static_cast<const T*>(a.x) + at * size, size);
  add<V, WARPS>(row, static_cast<const T*>(a.residual) + at * size, size);
  if (a.linear_bias) add<V, WARPS>(row, static_cast<const T*>(a.linear_bias), size);
  normalize<V, WARPS, T>(row, a, scratch);
  write<V, WARPS>(row, to + place * size, size);
  if (a.levels.q || a.f8.q) quantize<V, WARPS>(row, a, at, scratch);
}

template <class T, int V>
int launch(const AddLayerNorm& a, void* stream) {
  if (a.size <= kWarp * kValues) {
    const unsigned blocks = static_cast<unsigned>((a.rows + kRowsPerBlock - 1) / kRowsPerBlock);
    return PERFQ_LAUNCH((add_layernorm<T, V, 1>), blocks, kRowsPerBlock * kWarp, 0, stream, a);
  }
  const unsigned blocks = static_cast<unsigned>(a.rows);
  return PERFQ_LAUNCH((add_layernorm<T, V, kWideWarps>), blocks, kWideWarps * kWarp, kWideWarps * sizeof(float), stream, a);
}

template <class T>
int choose(const AddLayerNorm& a, void* stream) {
  return goes_wide<T>(a.size) ? launch<T, wide<T>()>(a, stream) : launch<T, 1>(a, stream);
}

}  // namespace

extern "C" int perfq_cuda_add_layernorm(const AddLayerNorm* a, void* stream) {
  if (a->rows == 0) return 0;
  switch (a->type) {
    case Type::kF32: return choose<float>(*a, stream);
    case Type::kF16: return choose<f16>(*a, stream);
    default: return choose<bf16>(*a, stream);
  }
}

}  // namespace perfq::cuda
