// One vector a sequence from the rows of its tokens, without restoring the padding.
//
// Bytes moved: every row of T once, or one a sequence by kCls. A block takes 32 runs of columns of one sequence, or where the
// vector is normalized all of them, since its length is that of the whole.

#include "device.cuh"

namespace perfq::cuda {
namespace {

constexpr int kWarps = 16;
constexpr int kTogether = 4;  // rows of which a thread has a load under way
constexpr float kNormFloor = 1e-12f;  // torch's normalize divides by it at least

__device__ __forceinline__ float join(float sum, float value, Pooling how) {
  if (how != Pooling::kMax) return sum + value;
  return value > sum || value != value ? value : sum;  // NaN stays NaN
}

// What this warp's rows of a sequence give, in `found`; the rows are every kWarps-th.
template <class T, int V>
__device__ __forceinline__ void gather(const T* x, int64_t length, int64_t size, Pooling how, float (&found)[V]) {
#pragma unroll
  for (int v = 0; v < V; ++v) found[v] = how == Pooling::kMax ? -INFINITY : 0.0f;
  for (int64_t token = warp(); token < length; token += kWarps * kTogether) {
    Vector<T, V> rows[kTogether];
#pragma unroll
    for (int one = 0; one < kTogether; ++one) {
      if (token + one * kWarps < length) rows[one] = load<V>(x + (token + one * kWarps) * size);
    }
#pragma unroll
    for (int one = 0; one < kTogether; ++one) {
      if (token + one * kWarps >= length) continue;
#pragma unroll
      for (int v = 0; v < V; ++v) found[v] = join(found[v], to_float(rows[one].at[v]), how);
    }
  }
}

template <class T, int V>
__global__ void __launch_bounds__(kWarps* kWarp) pool(Pool a, int columns) {
  PERFQ_SHARED(shared);
  float* parts = reinterpret_cast<float*>(shared);  // [warp][v][lane]
  float* scratch = parts + kWarps * V * kWarp;      // [warp]
  float* pooled = scratch + kWarps;                 // [columns]
  const int64_t first = a.cu_seqlens[blockIdx.x], tokens = a.cu_seqlens[blockIdx.x + 1] - first;
  const int64_t length = a.how == Pooling::kCls ? min(tokens, int64_t{1}) : tokens;
  const int begin = static_cast<int>(blockIdx.y) * columns, end = min(begin + columns, static_cast<int>(a.size));
  const T* x = static_cast<const T*>(a.x) + first * a.size;
  const int thread = static_cast<int>(threadIdx.x);
  for (int tile = begin; tile < end; tile += V * kWarp) {
    const int column = tile + lane() * V;
    float found[V];
    gather<T, V>(x + column, column < end ? length : 0, a.size, a.how, found);
#pragma unroll
    for (int v = 0; v < V; ++v) parts[(warp() * V + v) * kWarp + lane()] = found[v];
    __syncthreads();
    const int mine = tile + thread % kWarp * V + thread / kWarp;  // of the first V warps' threads
    if (thread < V * kWarp && mine < end) {
      float sum = parts[thread];
      for (int one = 1; one < kWarps; ++one) sum = join(sum, parts[one * V * kWarp + thread], a.how);
      if (a.how == Pooling::kMean) sum /= static_cast<float>(length);
      pooled[mine - begin] = length > 0 ? sum : 0.0f;
    }
    __syncthreads();
  }
  float norm = 1.0f;
  if (a.normalize) {
    float squares = 0.0f;
    for (int column = thread; column < end - begin; column += kWarps * kWarp) squares += pooled[column] * pooled[column];
    norm = sqrtf(block_reduce<Sum, kWarps>(squares, scratch));
    if (norm < kNormFloor) norm = kNormFloor;
  }
  T* y = static_cast<T*>(a.y) + blockIdx.x * a.size + begin;
  for (int column = thread; column < end - begin; column += kWarps * kWarp) y[column] = from_float<T>(pooled[column] / norm);
}

template <class T, int V>
int launch(const Pool& a, void* stream) {
  const int columns = a.normalize ? static_cast<int>(a.size) : V * kWarp;
  const size_t bytes = static_cast<size_t>(kWarps * V * kWarp + kWarps + columns) * sizeof(float);
  if (const int code = PERFQ_ALLOW_SHARED((pool<T, V>), bytes)) return code;
  const dim3 grid(static_cast<unsigned>(a.sequences), static_cast<unsigned>((a.size + columns - 1) / columns));
  return PERFQ_LAUNCH((pool<T, V>), grid, kWarps * kWarp, bytes, stream, a, columns);
}

template <class T>
int choose(const Pool& a, void* stream) {
  return goes_wide<T>(a.size) ? launch<T, wide<T>()>(a, stream) : launch<T, 1>(a, stream);
}

}  // namespace

extern "C" int perfq_cuda_pool(const Pool* a, void* stream) {
  if (a->sequences == 0) return 0;
  return by_type(a->type, [=]<class T>() { return choose<T>(*a, stream); });
}

}  // namespace perfq::cuda
