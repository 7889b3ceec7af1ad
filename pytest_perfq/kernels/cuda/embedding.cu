// LayerNorm(word + position + token type) of the real tokens only, a row in registers from the tables to its end.
//
// Bytes moved: a row of T from `word` and one to y, and 12 to 20 of ids; the other tables stay in L2.

#include "layernorm.cuh"

namespace perfq::cuda {
namespace {

// Rows of the three tables, or what the row becomes without them.
struct Found {
  int64_t word, position, type;
  bool wrong;
};

__device__ __forceinline__ Found look_up(const EmbedLayerNorm& a, int32_t place) {
  if (place < 0 || place >= a.places) return {0, 0, 0, true};
  const int64_t word = a.input_ids[place], type = a.token_type_ids ? a.token_type_ids[place] : 0;
  const int64_t position = static_cast<uint32_t>(place) % static_cast<uint32_t>(a.seq);
  const bool wrong = word < 0 || word >= a.words || position >= a.positions || (a.token_type && (type < 0 || type >= a.types));
  return {word, position, type, wrong};
}

template <class T, class Row>
__global__ void __launch_bounds__(Row::kThreads) embed_layernorm(EmbedLayerNorm a) {
  PERFQ_SHARED(shared);
  const int64_t at = Row::mine();
  if (at >= a.rows) return;  // whole warps
  const int size = static_cast<int>(a.size);
  T* to = static_cast<T*>(a.y) + at * size;
  const int32_t place = a.index[at];
  if (place == kNoPlace) {
    Row::fill(to, size, 0.0f);
    return;
  }
  const Found found = look_up(a, place);
  if (found.wrong) {
    Row::fill(to, size, NAN);
    return;
  }
  Row row = {};
  row.add(static_cast<const T*>(a.word) + found.word * size, size);
  row.add(static_cast<const T*>(a.position) + found.position * size, size);
  if (a.token_type) row.add(static_cast<const T*>(a.token_type) + found.type * size, size);
  normalize(row, size, static_cast<const T*>(a.weight), static_cast<const T*>(a.bias), a.eps, reinterpret_cast<float*>(shared));
  row.put(to, size);
}

template <class T, int V>
int launch(const EmbedLayerNorm& a, void* stream) {
  return with_row<V>(a.size, [&](auto chosen) {
    using Row = typename decltype(chosen)::Row;
    return PERFQ_LAUNCH((embed_layernorm<T, Row>), Row::blocks(a.rows), Row::kThreads, Row::kSharedBytes, stream, a);
  });
}

template <class T>
int choose(const EmbedLayerNorm& a, void* stream) {
  return goes_wide<T>(a.size) ? launch<T, wide<T>()>(a, stream) : launch<T, 1>(a, stream);
}

}  // namespace

extern "C" int perfq_cuda_embed_layernorm(const EmbedLayerNorm* a, void* stream) {
  if (a->rows == 0) return 0;
  return by_type(a->type, [=]<class T>() { return choose<T>(*a, stream); });
}

}  // namespace perfq::cuda
