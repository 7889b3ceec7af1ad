// The launchers of one instruction set; launch.h says what each is given.
#pragma once
#include "launch.h"
namespace perfq {
namespace PERFQ_ISA {
void linear(const Linear& call, const Workers& workers);
void linear_int8(const LinearInt8& call, const Workers& workers);
void attention(const Attention& call, const Workers& workers);
void add_layernorm(const AddLayerNorm& call, const Workers& workers);
void layer(const Layer& call, const Workers& workers);
int64_t embed_layernorm(const EmbedLayerNorm& call, const Workers& workers);
void pool(const Pool& call, const Workers& workers);
void restore(const Restore& call, const Workers& workers);
void quantize(const Rows& call, const Workers& workers);
void dequantize(const Rows& call, const Workers& workers);
}  // namespace PERFQ_ISA
}  // namespace perfq
