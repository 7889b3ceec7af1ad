// Whole tensors to uint8 and back by one scale and zero.

#include "launchers.h"
#include "parallel.h"
#include "quantizing.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

constexpr int64_t kGrain = 16384;  // elements a thread takes at least: some microseconds

}  // namespace

void quantize(const Rows& call, const Workers& workers) {
  parallel(workers, call.count, kGrain, [&](int64_t begin, int64_t end) {
    quantize_row(call.x + begin, end - begin, call.as, call.q + begin);
  });
}

void dequantize(const Rows& call, const Workers& workers) {
  parallel(workers, call.count, kGrain, [&](int64_t begin, int64_t end) {
    dequantize_row(call.q_in + begin, end - begin, call.as, call.y + begin);
  });
}

}  // namespace PERFQ_ISA
}  // namespace perfq
