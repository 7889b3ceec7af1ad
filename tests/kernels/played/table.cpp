// A set of launchers whose byte products are played in plain C++ (vnni.h). What is not compiled here is that of another set.

#include "launchers.h"

#define QUOTE(isa) #isa
#define TEXT(isa) QUOTE(isa)

namespace perfq {
namespace PERFQ_ISA {

extern const Kernels kernels;
const Kernels kernels{};  // what a launcher here asks for beside those below: nothing

extern "C" __attribute__((visibility("default"))) const Kernels* perfq_played(const Kernels* other) {
  static Kernels played;
  played = *other;
  played.isa = TEXT(PERFQ_ISA);
  played.linear_int8 = linear_int8;
  played.linear_bf16 = linear_bf16;  // none, whatever this processor has
#if PERFQ_PLAYED_VNNI == 64
  played.linear = linear;
  played.attention = attention;
  played.add_layernorm = add_layernorm;
  played.layer = layer;
#endif
  return &played;
}

}  // namespace PERFQ_ISA
}  // namespace perfq
