// The launchers of the instruction set this file is compiled for.

#include "launchers.h"
#include "processor.h"

#define PERFQ_TEXT(isa) PERFQ_QUOTE(isa)
#define PERFQ_QUOTE(a) #a

namespace perfq {
namespace PERFQ_ISA {

extern const Kernels kernels;
const Kernels kernels = {
    PERFQ_TEXT(PERFQ_ISA), kCompiledFor,    linear, linear_bf16, linear_int8, attention,  add_layernorm,
    layer,                 embed_layernorm, pool,   restore,     quantize,    dequantize,
};

}  // namespace PERFQ_ISA
}  // namespace perfq
