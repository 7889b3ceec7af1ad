// A set of launchers that multiply bfloat16, the one instruction for it played by dot.h. What is not compiled here is that of another
// set.

#include "launchers.h"

#define QUOTE(isa) #isa
#define TEXT(isa) QUOTE(isa)

namespace perfq {
namespace PERFQ_ISA {

extern "C" __attribute__((visibility("default"))) const Kernels* perfq_played(const Kernels* other) {
  static Kernels kernels = *other;
  kernels.isa = TEXT(PERFQ_ISA);
  kernels.linear_bf16 = linear_bf16;
  kernels.attention = attention;
  kernels.layer = layer;
  return &kernels;
}

}  // namespace PERFQ_ISA
}  // namespace perfq
