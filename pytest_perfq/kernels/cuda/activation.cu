// activation(x + bias), as floats or only as bytes.
//
// Bytes moved: two rows of T; or one of T and one of bytes, since a row waits in registers until its range is known.

#include "row.cuh"

namespace perfq::cuda {
namespace {

constexpr int kLines = 2;  // of threads in a block
constexpr int kColumns = 64;  // runs of V a line: 1536, 3072 and 4096 f16 are 3, 6 and 8 blocks
constexpr int kRows = 4;  // of a thread: the bias is read once for them, and their loads are under way together

// body(activation of a float) with the activation known to the compiler: one branch a thread, not one a value.
template <class Body>
__device__ __forceinline__ void with_activation(Activation how, Body body) {
  switch (how) {
    case Activation::kRelu: return body([](float x) { return activate(x, Activation::kRelu); });
    case Activation::kTanh: return body([](float x) { return activate(x, Activation::kTanh); });
    case Activation::kGelu: return body([](float x) { return activate(x, Activation::kGelu); });
    case Activation::kGeluTanh: return body([](float x) { return activate(x, Activation::kGeluTanh); });
    default: return body([](float x) { return x; });
  }
}

// x and y may be the same: a thread reads what it writes before it does, and nobody else reads it.
template <class T, int V>
__global__ void __launch_bounds__(kLines* kColumns) bias_activation(BiasActivation a) {
  const int64_t column = (int64_t{blockIdx.y} * kColumns + static_cast<int>(threadIdx.x) % kColumns) * V;
  const int64_t row = (int64_t{blockIdx.x} * kLines + static_cast<int>(threadIdx.x) / kColumns) * kRows;
  if (column >= a.size || row >= a.rows) return;
  const int rows = static_cast<int>(min(int64_t{kRows}, a.rows - row));
  const int64_t at = row * a.size + column;
  const T* x = static_cast<const T*>(a.x) + at;
  T* y = static_cast<T*>(a.y) + at;
  Vector<T, V> values[kRows];
#pragma unroll
  for (int one = 0; one < kRows; ++one) {
    if (one < rows) values[one] = load<V>(x + one * a.size);
  }
  float bias[V] = {};
  if (a.bias) read<V>(static_cast<const T*>(a.bias) + column, [&](int v, T value) { bias[v] = to_float(value); });
  with_activation(a.how, [&](auto activated) {
#pragma unroll
    for (int one = 0; one < kRows; ++one) {
      if (one >= rows) break;
#pragma unroll
      for (int v = 0; v < V; ++v) {
        values[one].at[v] = from_float<T>(activated(to_float(values[one].at[v]) + bias[v]));
      }
      store(y + one * a.size, values[one]);
    }
  });
}

template <class T, class Row>
__global__ void __launch_bounds__(Row::kThreads) bias_activation_bytes(BiasActivation a) {
  PERFQ_SHARED(shared);
  float* scratch = reinterpret_cast<float*>(shared);
  const int64_t at = Row::mine();
  if (at >= a.rows) return;  // whole warps
  const int size = static_cast<int>(a.size);
  Row row = {};
  row.add(static_cast<const T*>(a.x) + at * size, size);
  if (a.bias) row.add(static_cast<const T*>(a.bias), size);
  with_activation(a.how, [&](auto activated) { row.each(size, [&](float& value) { value = activated(value); }); });
  if (a.levels.q) row.put_levels(a.levels, at, size, scratch);
  if (a.f8.q) row.put_f8(a.f8, at, size, scratch);
}

template <class T, int V>
int launch(const BiasActivation& a, void* stream) {
  const dim3 grid(static_cast<unsigned>((a.rows + kLines * kRows - 1) / (kLines * kRows)),
                  static_cast<unsigned>((a.size + kColumns * V - 1) / (kColumns * V)));
  return PERFQ_LAUNCH((bias_activation<T, V>), grid, kLines * kColumns, 0, stream, a);
}

template <class T, class Row>
int launch_bytes(const BiasActivation& a, void* stream) {
  return PERFQ_LAUNCH((bias_activation_bytes<T, Row>), Row::blocks(a.rows), Row::kThreads, Row::kSharedBytes, stream, a);
}

// The inner sizes 1536, 3072 and 4096 are four warps' with 16, 24 and 32 values a thread.
template <class T, int V>
int choose_bytes(const BiasActivation& a, void* stream) {
  if constexpr (V > 1) {
    if (a.size <= Row<V, 32, 1>::kMostSize) return launch_bytes<T, Row<V, 32, 1>>(a, stream);
    if (a.size <= Row<V, 16, 4>::kMostSize) return launch_bytes<T, Row<V, 16, 4>>(a, stream);
    if (a.size <= Row<V, 24, 4>::kMostSize) return launch_bytes<T, Row<V, 24, 4>>(a, stream);
    if (a.size <= Row<V, 32, 4>::kMostSize) return launch_bytes<T, Row<V, 32, 4>>(a, stream);
  }
  return launch_bytes<T, Row<V, 32, 8>>(a, stream);
}

template <class T>
int choose(const BiasActivation& a, void* stream) {
  const bool goes = goes_wide<T>(a.size);
  if (a.y) return goes ? launch<T, wide<T>()>(a, stream) : launch<T, 1>(a, stream);
  return goes ? choose_bytes<T, wide<T>()>(a, stream) : choose_bytes<T, 1>(a, stream);
}

}  // namespace

extern "C" int perfq_cuda_bias_activation(const BiasActivation* a, void* stream) {
  if (a->rows == 0 || a->size == 0) return 0;
  return by_type(a->type, [=]<class T>() { return choose<T>(*a, stream); });
}

}  // namespace perfq::cuda
