// Which instruction set this processor runs.

#include <cstring>

#include "launch.h"

namespace perfq {

namespace portable {
extern const Kernels kernels;
}
#ifdef __x86_64__
namespace avx2 {
extern const Kernels kernels;
}

static bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

const Kernels* find_kernels(const char* isa) {
  const bool any = std::strcmp(isa, "auto") == 0;
#ifdef __x86_64__
  if ((any || std::strcmp(isa, avx2::kernels.isa) == 0) && has_avx2()) return &avx2::kernels;
#endif
  return any || std::strcmp(isa, portable::kernels.isa) == 0 ? &portable::kernels : nullptr;
}

}  // namespace perfq
