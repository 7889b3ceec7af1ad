// LayerNorm(word + position + token type) of the real tokens only.

#include "launchers.h"
#include "normalize.h"
#include "parallel.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

constexpr int64_t kGrain = 16;

void add_row(const float* from, int64_t size, float* to) {
  int64_t k = 0;
  for (; k + kWideLanes <= size; k += kWideLanes) store_wide(to + k, load_wide(to + k) + load_wide(from + k));
  for (; k < size; ++k) to[k] += from[k];
}

}  // namespace

int64_t embed_layernorm(const EmbedLayerNorm& call, const Workers& workers) {
  int64_t wrong = -1;
  parallel(workers, call.rows, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t place = call.index[row], position = place % call.seq;
      const int64_t word = call.input_ids[place];
      const int64_t type = call.token_type_ids ? call.token_type_ids[place] : 0;
      const bool bad = word < 0 || word >= call.words || position >= call.positions ||
                       (call.token_type && (type < 0 || type >= call.types));
      if (bad) {
        __atomic_store_n(&wrong, row, __ATOMIC_RELAXED);
        return;
      }
      float* y = call.y + row * call.size;
      memcpy(y, call.word + word * call.size, sizeof(float) * call.size);
      add_row(call.position + position * call.size, call.size, y);
      if (call.token_type) add_row(call.token_type + type * call.size, call.size, y);
      normalize(y, call.size, call.weight, call.bias, call.eps);
    }
  });
  return wrong;
}

}  // namespace PERFQ_ISA
}  // namespace perfq
