// The launchers of one instruction set; launch.h says what each is given.
#pragma once
#include "launch.h"
namespace perfq {
namespace PERFQ_ISA {
void linear(const Linear& call, const Workers& workers);
#if defined(__AVX512BF16__) || defined(PERFQ_PLAYED_DOT) || defined(PERFQ_PLAYED_AMX)
#define PERFQ_HAS_BF16
void linear_bf16(const LinearBf16& call, const Workers& workers);
#else  // an empty entry of the table, which the bindings look at before they or `layer` would call it
constexpr void (*linear_bf16)(const LinearBf16& call, const Workers& workers) = nullptr;
#endif
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
