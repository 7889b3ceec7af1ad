// A set of launchers whose attention multiplies by the tiles that played_amx.h plays. What is not compiled here is that of another
// set.

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
  return &kernels;
}

}  // namespace PERFQ_ISA
}  // namespace perfq
