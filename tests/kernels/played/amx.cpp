// A set of launchers that multiply by the tiles that played_amx.h plays. What is not compiled here is that of another set.

#include "launchers.h"

#define QUOTE(isa) #isa
#define TEXT(isa) QUOTE(isa)

namespace perfq {
namespace PERFQ_ISA {

extern "C" __attribute__((visibility("default"))) const Kernels* perfq_played(const Kernels* other) {
  static Kernels kernels;
  kernels = *other;
  kernels.isa = TEXT(PERFQ_ISA);
  kernels.attention = attention;
  kernels.linear_int8 = linear_int8;
  kernels.linear_bf16 = linear_bf16;
  kernels.layer = layer;
  return &kernels;
}

}  // namespace PERFQ_ISA
}  // namespace perfq
