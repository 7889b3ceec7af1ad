// One vector a sequence from the rows of its tokens, without restoring the padding.

#include <cmath>

#include "launchers.h"
#include "parallel.h"
#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

void gather(const Pool& call, int64_t first, int64_t length, float* y) {
  memcpy(y, call.x + first * call.size, sizeof(float) * call.size);
  if (call.how == Pooling::kCls) return;
  for (int64_t token = first + 1; token < first + length; ++token) {
    const float* x = call.x + token * call.size;
    if (call.how == Pooling::kMean) {
      for (int64_t k = 0; k < call.size; ++k) y[k] += x[k];
    } else {
      for (int64_t k = 0; k < call.size; ++k) y[k] = larger(x[k], y[k]);
    }
  }
  if (call.how == Pooling::kMean) {
    for (int64_t k = 0; k < call.size; ++k) y[k] /= static_cast<float>(length);
  }
}

// To length 1; as torch's normalize, a vector shorter than 1e-12 is divided by that.
void to_unit(float* y, int64_t size) {
  float squares = 0.0f;
  for (int64_t k = 0; k < size; ++k) squares += y[k] * y[k];
  const float length = larger(sqrtf(squares), 1e-12f);
  for (int64_t k = 0; k < size; ++k) y[k] /= length;
}

}  // namespace

void pool(const Pool& call, const Workers& workers) {
  parallel(workers, call.sequences, 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const int64_t first = call.cu_seqlens[s], length = call.cu_seqlens[s + 1] - first;
      float* y = call.y + s * call.size;
      if (length == 0) {
        memset(y, 0, sizeof(float) * call.size);
        continue;
      }
      gather(call, first, length, y);
      if (call.normalize) to_unit(y, call.size);
    }
  });
}

}  // namespace PERFQ_ISA
}  // namespace perfq
