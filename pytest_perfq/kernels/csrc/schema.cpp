// Every op of the native encoder, named once. A device adds implementations; nothing else knows a signature.
//
// T: real tokens of a batch, B: sequences, S: padded length, H: hidden size, K: in features, N: out features.
// cu_seqlens [B + 1] int32: first token of each sequence, and T. index [T] int32: row * S + column of each token.
// activation: "none", "relu", "tanh", "gelu" (erf) or "gelu_tanh". bits: "w8a8", "w8a7" or "w7a7".

#include "names.h"

PERFQ_LIBRARY(PERFQ_OPS, m) {
  // mask [B, S] int64, tokens T (known on the host) -> cu_seqlens, index.
  m.def("pack_tokens(Tensor mask, SymInt tokens) -> (Tensor, Tensor)");
  // x [T, H] -> [B, S, H]; rows of padding are exactly zero.
  m.def("restore_padding(Tensor x, Tensor index, SymInt batch, SymInt seq) -> Tensor");
  // x [T, H] -> [B, H]; how: "cls", "mean" or "max"; an empty sequence gives zeros.
  m.def("pool(Tensor x, Tensor cu_seqlens, str how, bool normalize) -> Tensor");
  // input_ids, token_type_ids [B, S] int64 -> LayerNorm(word + position + token_type) of the real tokens, [T, H].
  m.def(
      "embed_layernorm(Tensor input_ids, Tensor? token_type_ids, Tensor index, Tensor word, Tensor position, "
      "Tensor? token_type, Tensor weight, Tensor bias, float eps) -> Tensor");
  // LayerNorm(x + linear_bias + residual), [T, H].
  m.def(
      "add_layernorm(Tensor x, Tensor residual, Tensor? linear_bias, Tensor weight, Tensor bias, float eps) -> Tensor");
  // qkv [T, 3H] (queries, keys, values; heads side by side) -> softmax(scale q k') v within each sequence, [T, H]. may_round: a
  // CPU that has tiles of bfloat16 may round queries, keys, values and the weights of the softmax to it; a GPU multiplies in the
  // type of qkv either way.
  m.def("varlen_attention(Tensor qkv, Tensor cu_seqlens, int heads, float scale, bool may_round=False) -> Tensor");

  // weight [N, K] float32, or bfloat16 -> the layout `linear` reads, flat, of the same type.
  m.def("pack_weight(Tensor weight) -> Tensor");
  // x [T, K], packed weight -> activation(x weight' + bias), [T, N]. On a CPU x is float32, and its rows are rounded to bfloat16
  // (nearest, ties to even) where the weight is; products are summed in float32.
  m.def("linear(Tensor x, Tensor weight, Tensor? bias, SymInt out_features, str activation) -> Tensor");

  // One layer as one op: what linear (in bits "fp32" and "bf16"; else linear_int8 with a scale a row), varlen_attention (which
  // may round, but in fp32) and add_layernorm give one after the other. packed and biases: of the linears qkv, out, up and down; scales and sums: their
  // weight_scale and weight_sum, none in fp32 and bf16; norms: weight and bias of the one after attention, then of the one after
  // the layer.
  m.def(
      "layer(Tensor x, Tensor cu_seqlens, Tensor[] packed, Tensor[] scales, Tensor[] sums, Tensor[] biases, Tensor[] norms, "
      "int heads, float scale, float attention_eps, float output_eps, str bits, str activation) -> Tensor");

  // INT8. A uint8 tensor holds round(x / scale) + zero, within 0..255 (a8) or 0..127 (a7), and linear_int8 refuses a larger one;
  // weights are symmetric.
  // weight [N, K] int8 -> the layout `linear_int8` reads for these bits, flat.
  m.def("pack_weight_int8(Tensor weight, str bits) -> Tensor");
  // x [T, K]: float (quantized here: by input_scale [1] and input_zero [1] int32, or a row at a time without them) or
  // uint8 (with them). weight_scale [N], weight_sum [N] int32 (of each row). Returns float [T, N], or uint8 with
  // output_scale [1] and output_zero [1] int32.
  m.def(
      "linear_int8(Tensor x, Tensor weight, Tensor weight_scale, Tensor weight_sum, Tensor? bias, Tensor? input_scale, "
      "Tensor? input_zero, Tensor? output_scale, Tensor? output_zero, str bits, str activation) -> Tensor");
  // The same as add_layernorm and varlen_attention, which may round, between uint8 tensors; scales [1] float and zeros [1] int32, those of
  // x (qkv), then of the residual, then of the output; levels: 255 (a8) or 127 (a7), the largest value of the output.
  m.def(
      "add_layernorm_int8(Tensor x, Tensor residual, Tensor weight, Tensor bias, float eps, Tensor[] scales, "
      "Tensor[] zeros, int levels) -> Tensor");
  m.def(
      "varlen_attention_int8(Tensor qkv, Tensor cu_seqlens, int heads, float scale, Tensor[] scales, Tensor[] zeros, "
      "int levels) -> Tensor");
  // x [T, H] float -> uint8 by scale [1] and zero [1] int32; and back. A CPU refuses an x that is not finite.
  m.def("quantize(Tensor x, Tensor scale, Tensor zero, int levels) -> Tensor");
  m.def("dequantize(Tensor x, Tensor scale, Tensor zero) -> Tensor");

  // For a GPU, where each launch costs microseconds: what is computed between two products, as one. f8: float8_e4m3fn, a row at a
  // time, row = f8 * scale. levels: 255 or 127, a row at a time, row = (q - zero) * scale.
  // add_layernorm, and its output in levels: y [T, H], q [T, H] uint8, scale [T], zero [T] int32; or in f8: y, q, scale.
  m.def(
      "add_layernorm_levels(Tensor x, Tensor residual, Tensor? linear_bias, Tensor weight, Tensor bias, float eps, int levels) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "add_layernorm_f8(Tensor x, Tensor residual, Tensor? linear_bias, Tensor weight, Tensor bias, float eps) "
      "-> (Tensor, Tensor, Tensor)");
  // add_layernorm, and restore_padding.
  m.def(
      "add_layernorm_restore(Tensor x, Tensor residual, Tensor? linear_bias, Tensor weight, Tensor bias, float eps, Tensor index, "
      "SymInt batch, SymInt seq) -> Tensor");
  // activation(x + bias), [T, N]; and only in levels: q, scale, zero; or in f8: q, scale.
  m.def("bias_activation(Tensor x, Tensor? bias, str activation) -> Tensor");
  m.def("bias_activation_levels(Tensor x, Tensor? bias, str activation, int levels) -> (Tensor, Tensor, Tensor)");
  m.def("bias_activation_f8(Tensor x, Tensor? bias, str activation) -> (Tensor, Tensor)");
  // x [T, K] times weight [N, K] as they are, on tensor cores, float16 or bfloat16: activation(x weight' + bias), [T, N]. tile: the
  // outputs of a block: 0 is chosen by their number, 1 to 3 are 128 x 128, 64 x 64, 32 x 32.
  m.def("linear_fused(Tensor x, Tensor weight, Tensor? bias, str activation, int tile=0) -> Tensor");
  // linear_int8 of levels: q [T, K] uint8 with scale and zero [T] or [1]; bits w8a8; bias and the output in dtype.
  m.def(
      "linear_levels(Tensor q, Tensor scale, Tensor zero, Tensor weight, Tensor weight_scale, Tensor weight_sum, Tensor? bias, "
      "str activation, ScalarType dtype, int tile=0) -> Tensor");
  // most [K] float32 becomes the larger of itself and the largest magnitude of each column of x [T, K].
  m.def("absmax(Tensor(a!) most, Tensor x) -> ()");

  // What the kernels run on, by the names of isas.py ("portable", "avx2" ...); the argument chooses one of those that the library
  // has and the processor runs from here on, "auto" the best of them.
  m.def("select_isa(str wanted) -> str");
}
