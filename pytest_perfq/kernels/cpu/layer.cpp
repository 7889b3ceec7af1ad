// A whole layer: the launchers of its ops, one after the other, on some sequences at a time.
//
// What lies between the ops stays in this thread's scratch, and one call replaces seven, which at a few dozen tokens is a tenth of
// the time. The numbers are those of the ops, to the last bit.

#include "amx.h"
#include "launchers.h"
#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

// Tokens of a group, unless one sequence is longer: enough to pay for streaming the weights again, and little memory. Products by
// tiles are so fast that the floats between them are what is waited for, unless most of them stay in an L2 of 2 MiB.
#ifdef PERFQ_AMX
constexpr int64_t kGroupTokens = 192;
#else
constexpr int64_t kGroupTokens = 512;
#endif

struct Memory {  // [tokens, ...] of a group
  float *qkv, *context, *middle, *sums, *inner;
  int32_t* cu_seqlens;
};

Memory memory(const Layer& call, int64_t sequences, int64_t tokens) {
  const int64_t hidden = call.heads * call.size, rows = smaller(tokens, kGroupTokens);
  const int64_t floats = tokens * 6 * hidden + rows * call.inner;
  Memory found;
  found.qkv = static_cast<float*>(scratch(kLayer, sizeof(float) * floats + sizeof(int32_t) * (sequences + 1)));
  found.context = found.qkv + tokens * 3 * hidden;
  found.middle = found.context + tokens * hidden;
  found.sums = found.middle + tokens * hidden;
  found.inner = found.sums + tokens * hidden;
  found.cu_seqlens = reinterpret_cast<int32_t*>(found.inner + rows * call.inner);
  return found;
}

struct Rows {
  int64_t count, in, out;
};

void multiply(const Layer& layer, const LayerLinear& by, Activation activation, const float* x, const Rows& rows, float* y,
              const Workers& workers) {
  if (by.pairs) {
    linear_bf16({x, by.pairs, by.bias, y, rows.count, rows.in, rows.out, activation}, workers);
    return;
  }
  if (!layer.int8) {
    linear({x, by.weight, by.bias, y, rows.count, rows.in, rows.out, activation}, workers);
    return;
  }
  LinearInt8 call{};
  call.x = x, call.y = y, call.rows = rows.count, call.in = rows.in, call.out = rows.out;
  call.weight = by.weight8, call.weight_scale = by.scale, call.weight_sum = by.sum, call.bias = by.bias;
  call.bits = layer.bits, call.activation = activation;
  linear_int8(call, workers);
}

void add_norm(const LayerNorm& by, const float* linear_bias, const float* x, const float* residual, int64_t rows, int64_t size,
              float* y, const Workers& workers) {
  AddLayerNorm call{};
  call.x = x, call.residual = residual, call.linear_bias = linear_bias, call.weight = by.weight, call.bias = by.bias;
  call.y = y, call.rows = rows, call.size = size, call.eps = by.eps;
  add_layernorm(call, workers);
}

// Attention, and the sum with its input: x [tokens, hidden] -> between.middle.
void attend(const Layer& call, const float* x, int64_t sequences, int64_t tokens, const Memory& between, const Workers& workers) {
  const int64_t hidden = call.heads * call.size;
  multiply(call, call.qkv, Activation::kNone, x, {tokens, hidden, 3 * hidden}, between.qkv, workers);
  Attention heads{};
  heads.qkv = between.qkv, heads.out = between.context, heads.cu_seqlens = between.cu_seqlens, heads.sequences = sequences;
  heads.heads = call.heads, heads.size = call.size, heads.scale = call.scale;
  heads.may_round = call.int8 || call.qkv.pairs;
  attention(heads, workers);
  LayerLinear out = call.out;
  out.bias = nullptr;  // added with the residual
  multiply(call, out, Activation::kNone, between.context, {tokens, hidden, hidden}, between.sums, workers);
  add_norm(call.attention_norm, call.out.bias, between.sums, x, tokens, hidden, between.middle, workers);
}

// The feed-forward part: x [rows, hidden] -> y [rows, hidden].
void feed_forward(const Layer& call, const float* x, int64_t rows, const Memory& between, float* y, const Workers& workers) {
  const int64_t hidden = call.heads * call.size;
  multiply(call, call.up, call.activation, x, {rows, hidden, call.inner}, between.inner, workers);
  LayerLinear down = call.down;
  down.bias = nullptr;
  multiply(call, down, Activation::kNone, between.inner, {rows, call.inner, hidden}, between.sums, workers);
  add_norm(call.output_norm, call.down.bias, between.sums, x, rows, hidden, y, workers);
}

// Sequences [first, last).
void run_group(const Layer& call, int64_t first, int64_t last, const Workers& workers) {
  const int64_t hidden = call.heads * call.size, begin = call.cu_seqlens[first];
  const int64_t tokens = call.cu_seqlens[last] - begin;
  if (tokens == 0) return;
  const Memory between = memory(call, last - first, tokens);
  for (int64_t s = first; s <= last; ++s) between.cu_seqlens[s - first] = static_cast<int32_t>(call.cu_seqlens[s] - begin);
  attend(call, call.x + begin * hidden, last - first, tokens, between, workers);
  for (int64_t row = 0; row < tokens; row += kGroupTokens) {
    const int64_t rows = smaller(kGroupTokens, tokens - row);
    feed_forward(call, between.middle + row * hidden, rows, between, call.y + (begin + row) * hidden, workers);
  }
}

}  // namespace

void layer(const Layer& call, const Workers& workers) {
  for (int64_t first = 0, last = 0; first < call.sequences; first = last) {
    last = first + 1;
    while (last < call.sequences && call.cu_seqlens[last + 1] - call.cu_seqlens[first] <= kGroupTokens) ++last;
    run_group(call, first, last, workers);
  }
}

}  // namespace PERFQ_ISA
}  // namespace perfq
