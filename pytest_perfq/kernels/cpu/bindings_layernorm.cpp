// What ends in a LayerNorm: the embeddings, and a sum with the residual in float or in INT8.

#include <torch/csrc/stable/library.h>

#include "bindings.h"

namespace perfq {
namespace {

Tensor embed_layernorm(const Tensor& input_ids, const std::optional<Tensor>& token_type_ids, const Tensor& index,
                       const Tensor& word, const Tensor& position, const std::optional<Tensor>& token_type,
                       const Tensor& weight, const Tensor& bias, double eps) {
  const char* op = "embed_layernorm";
  const Input<int64_t> ids(op, "input_ids", input_ids, 2);
  const MaybeInput<int64_t> types(op, "token_type_ids", token_type_ids, 2);
  const Input<int32_t> places(op, "index", index, 1);
  const Input<float> words(op, "word", word, 2), positions(op, "position", position, 2);
  const MaybeInput<float> type_rows(op, "token_type", token_type, 2);
  const Input<float> scale(op, "weight", weight, 1), shift(op, "bias", bias, 1);
  const int64_t size = at_least_one(op, "the hidden size", words.size(1));
  agree(op, "word has features:", size, "position", positions.size(1));
  agree(op, "word has features:", size, "weight", scale.count());
  agree(op, "word has features:", size, "bias", shift.count());
  if (type_rows) agree(op, "word has features:", size, "token_type", type_rows.size(1));
  if (types) agree(op, "input_ids has numbers:", ids.count(), "token_type_ids", types.count());
  check_index(op, places, ids.count());
  Tensor y = make({places.count(), size}, ScalarType::Float);
  const int64_t seq = ids.size(1);
  const int64_t wrong = kernels().embed_layernorm(
      {ids.data(), types.data(), places.data(), words.data(), positions.data(), type_rows.data(), scale.data(),
       shift.data(), data_of<float>(y), places.count(), seq, size, words.size(0), positions.size(0),
       type_rows ? type_rows.size(0) : 0, static_cast<float>(eps)},
      workers());
  if (wrong >= 0) {
    const int64_t place = places.data()[wrong];
    refuse(op, "the token in row ", place / seq, ", column ", place % seq, " has id ", ids.data()[place], ", position ",
           place % seq, " and type ", types ? types.data()[place] : 0, ", but there are ", words.size(0), " words, ",
           positions.size(0), " positions and ", type_rows ? type_rows.size(0) : 0, " types");
  }
  return y;
}

Tensor add_layernorm(const Tensor& x, const Tensor& residual, const std::optional<Tensor>& linear_bias,
                     const Tensor& weight, const Tensor& bias, double eps) {
  const char* op = "add_layernorm";
  const Input<float> rows(op, "x", x, 2), others(op, "residual", residual, 2);
  const MaybeInput<float> linear(op, "linear_bias", linear_bias, 1);
  const Input<float> scale(op, "weight", weight, 1), shift(op, "bias", bias, 1);
  const int64_t size = at_least_one(op, "the hidden size", rows.size(1));
  agree(op, "x has rows:", rows.size(0), "residual", others.size(0));
  agree(op, "x has features:", size, "residual", others.size(1));
  agree(op, "x has features:", size, "weight", scale.count());
  agree(op, "x has features:", size, "bias", shift.count());
  if (linear) agree(op, "x has features:", size, "linear_bias", linear.count());
  Tensor y = make({rows.size(0), size}, ScalarType::Float);
  AddLayerNorm call{};
  call.x = rows.data(), call.residual = others.data(), call.linear_bias = linear.data();
  call.weight = scale.data(), call.bias = shift.data(), call.y = data_of<float>(y);
  call.rows = rows.size(0), call.size = size, call.eps = static_cast<float>(eps);
  kernels().add_layernorm(call, workers());
  return y;
}

Tensor add_layernorm_int8(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias, double eps,
                          std::vector<Tensor> scales, std::vector<Tensor> zeros, int64_t levels) {
  const char* op = "add_layernorm_int8";
  const Input<uint8_t> rows(op, "x", x, 2), others(op, "residual", residual, 2);
  const Input<float> scale(op, "weight", weight, 1), shift(op, "bias", bias, 1);
  const int64_t size = at_least_one(op, "the hidden size", rows.size(1));
  const int32_t top = levels_of(op, levels);
  same_number(op, scales, zeros, 3);
  agree(op, "x has rows:", rows.size(0), "residual", others.size(0));
  agree(op, "x has features:", size, "residual", others.size(1));
  agree(op, "x has features:", size, "weight", scale.count());
  agree(op, "x has features:", size, "bias", shift.count());
  Tensor y = make({rows.size(0), size}, ScalarType::Byte);
  AddLayerNorm call{};
  call.x8 = rows.data(), call.residual8 = others.data(), call.y8 = data_of<uint8_t>(y);
  call.weight = scale.data(), call.bias = shift.data();
  call.x_as = quantized_as(op, "x", scales[0], zeros[0], top);
  call.residual_as = quantized_as(op, "the residual", scales[1], zeros[1], top);
  call.y_as = quantized_as(op, "the output", scales[2], zeros[2], top);
  call.rows = rows.size(0), call.size = size, call.eps = static_cast<float>(eps);
  kernels().add_layernorm(call, workers());
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(perfq, CPU, m) {
  m.impl("embed_layernorm", TORCH_BOX(&embed_layernorm));
  m.impl("add_layernorm", TORCH_BOX(&add_layernorm));
  m.impl("add_layernorm_int8", TORCH_BOX(&add_layernorm_int8));
}

}  // namespace perfq
