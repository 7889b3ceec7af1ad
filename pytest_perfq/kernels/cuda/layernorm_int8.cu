// LayerNorm(x + residual) between bytes: two in and one out a value, and nothing else moves.

#include "layernorm.cuh"

namespace perfq::cuda {
namespace {

constexpr int kTogether = 8;  // bytes a thread loads at once: more would leave lanes idle on rows of 384 and 768

template <int V, int N, int WARPS>
__device__ __forceinline__ void add_levels(Row<V, N, WARPS>& row, const uint8_t* from, int size, const Levels& as) {
  const float scale = *as.scale;
  const int32_t zero = *as.zero;
  row.runs(size, [&](int one, int column) {
    read<V>(from + column,
            [&](int v, uint8_t level) { row.at[one + v] += static_cast<float>(static_cast<int32_t>(level) - zero) * scale; });
  });
}

template <class T, class Row>
__global__ void __launch_bounds__(Row::kThreads) add_layernorm_int8(AddLayerNormInt8 a) {
  PERFQ_SHARED(shared);
  const int64_t at = Row::mine();
  if (at >= a.rows) return;  // whole warps
  const int size = static_cast<int>(a.size);
  Row row = {};
  add_levels(row, a.x + at * size, size, a.x_as);
  add_levels(row, a.residual + at * size, size, a.residual_as);
  normalize(row, size, static_cast<const T*>(a.weight), static_cast<const T*>(a.bias), a.eps, reinterpret_cast<float*>(shared));
  const float inverse = 1.0f / *a.y_as.scale;
  const int32_t zero = *a.y_as.zero, levels = a.levels;
  row.put_bytes(a.y + at * size, size, [=](float x) { return to_levels(x, inverse, zero, levels); });
}

template <class T, int V>
int launch(const AddLayerNormInt8& a, void* stream) {
  return with_row<V>(a.size, [&](auto chosen) {
    using Row = typename decltype(chosen)::Row;
    return PERFQ_LAUNCH((add_layernorm_int8<T, Row>), Row::blocks(a.rows), Row::kThreads, Row::kSharedBytes, stream, a);
  });
}

template <class T>
int choose(const AddLayerNormInt8& a, void* stream) {
  return a.size % kTogether == 0 ? launch<T, kTogether>(a, stream) : launch<T, 1>(a, stream);
}

}  // namespace

extern "C" int perfq_cuda_add_layernorm_int8(const AddLayerNormInt8* a, void* stream) {
  if (a->rows == 0) return 0;
  return by_type(a->type, [=]<class T>() { return choose<T>(*a, stream); });
}

}  // namespace perfq::cuda
