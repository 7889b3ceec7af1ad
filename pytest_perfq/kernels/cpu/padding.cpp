// Rows of tokens back to [batch, seq], padding exactly zero.

#include "launchers.h"
#include "parallel.h"
#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

constexpr int64_t kGrain = 64;

// The first token at or after a place.
int64_t token_at(const Restore& call, int64_t place) {
  int64_t low = 0, high = call.tokens;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (call.index[middle] < place) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace

void restore(const Restore& call, const Workers& workers) {
  const size_t bytes = sizeof(float) * static_cast<size_t>(call.size);
  parallel(workers, call.places, kGrain, [&](int64_t begin, int64_t end) {
    int64_t token = token_at(call, begin);
    for (int64_t place = begin; place < end; ++place) {
      float* to = call.y + place * call.size;
      if (token < call.tokens && call.index[token] == place) {
        memcpy(to, call.x + token * call.size, bytes);
        ++token;
      } else {
        memset(to, 0, bytes);
      }
    }
  });
}

}  // namespace PERFQ_ISA
}  // namespace perfq
