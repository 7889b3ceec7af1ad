// A lambda over a range on torch's threads. The template lives in the ISA's namespace; see simd.h for the reason.
#pragma once

#include "launch.h"

namespace perfq {
namespace PERFQ_ISA {

template <class Body>
inline void parallel(const Workers& workers, int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  if (workers.threads == 1 || count <= grain) {
    body(int64_t{0}, count);
    return;
  }
  workers.run(
      count, grain,
      [](int64_t begin, int64_t end, void* context) { (*static_cast<const Body*>(context))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace PERFQ_ISA
}  // namespace perfq
