// LayerNorm(x + linear_bias + residual) in one pass over memory: a row stays in the registers of one warp (up to 1024 values),
// of four or of eight. It can leave the row in bytes beside it, or put it where it was in a padded batch.
//
// Bytes moved: three rows of T for one of output and two of input, and a byte a value where it is quantized; one of padding.

#include "layernorm.cuh"
#include "padding.cuh"

namespace perfq::cuda {
namespace {

template <class T, class Row>
__global__ void __launch_bounds__(Row::kThreads) add_layernorm(AddLayerNorm a) {
  PERFQ_SHARED(shared);
  float* scratch = reinterpret_cast<float*>(shared);
  const int64_t place = Row::mine();
  if (place >= a.places) return;  // whole warps
  const int size = static_cast<int>(a.size);
  T* to = static_cast<T*>(a.y) + place * size;
  int64_t at = place;
  if (a.index) {
    const int rows = static_cast<int>(a.rows);
    at = first_token(a.index, rows, static_cast<uint32_t>(place));
    if (at >= rows || a.index[at] != place) {  // padding
      Row::fill(to, size, is_spoilt(a.index, rows) ? NAN : 0.0f);
      return;
    }
  }
  Row row = {};
  row.add(static_cast<const T*>(a.x) + at * size, size);
  row.add(static_cast<const T*>(a.residual) + at * size, size);
  if (a.linear_bias) row.add(static_cast<const T*>(a.linear_bias), size);
  normalize(row, size, static_cast<const T*>(a.weight), static_cast<const T*>(a.bias), a.eps, scratch);
  row.put(to, size);
  if (a.levels.q) row.put_levels(a.levels, at, size, scratch);
  if (a.f8.q) row.put_f8(a.f8, at, size, scratch);
}

template <class T, int V>
int launch(const AddLayerNorm& a, void* stream) {
  return with_row<V>(a.size, [&](auto chosen) {
    using Row = typename decltype(chosen)::Row;
    return PERFQ_LAUNCH((add_layernorm<T, Row>), Row::blocks(a.places), Row::kThreads, Row::kSharedBytes, stream, a);
  });
}

template <class T>
int choose(const AddLayerNorm& a, void* stream) {
  return goes_wide<T>(a.size) ? launch<T, wide<T>()>(a, stream) : launch<T, 1>(a, stream);
}

}  // namespace

extern "C" int perfq_cuda_add_layernorm(const AddLayerNorm* a, void* stream) {
  if (a->places == 0) return 0;
  return by_type(a->type, [=]<class T>() { return choose<T>(*a, stream); });
}

}  // namespace perfq::cuda
