// embed_layernorm on a GPU: checks shapes and types, makes the output, queues the kernel. Reads no value.

#include "../csrc/names.h"
#include "places.h"

namespace perfq::cuda {
namespace {

Tensor embed_layernorm(const Tensor& input_ids, std::optional<Tensor> token_type_ids, const Tensor& index, const Tensor& word,
                       const Tensor& position, std::optional<Tensor> token_type, const Tensor& weight, const Tensor& bias,
                       double eps) {
  const char* op = "embed_layernorm";
  const Type type = float_type(op, "word", word);
  const ScalarType scalar = word.scalar_type();
  const Operand ids(op, "input_ids", input_ids, 2, ScalarType::Long), places(op, "index", index, 1, ScalarType::Int);
  const MaybeOperand types(op, "token_type_ids", token_type_ids, 2, ScalarType::Long);
  const Operand words(op, "word", word, 2, scalar), positions(op, "position", position, 2, scalar);
  const MaybeOperand type_rows(op, "token_type", token_type, 2, scalar);
  const Operand scale(op, "weight", weight, 1, scalar), shift(op, "bias", bias, 1, scalar);
  const int64_t size = words.size(1);
  check_batch(op, ids.size(0), ids.size(1));
  check_features(op, "word", size);
  agree(op, "word has features:", size, "position", positions.size(1));
  scale.long_as("word has features:", size);
  shift.long_as("word has features:", size);
  if (type_rows) agree(op, "word has features:", size, "token_type", type_rows->size(1));
  if (types) {
    agree(op, "input_ids has rows:", ids.size(0), "token_type_ids", types->size(0));
    agree(op, "input_ids has columns:", ids.size(1), "token_type_ids", types->size(1));
  }
  Tensor y = make_beside(word, {places.count(), size}, scalar);
  EmbedLayerNorm a{};
  a.input_ids = ids.as<int64_t>();
  a.token_type_ids = static_cast<const int64_t*>(types.data());
  a.index = places.as<int32_t>();
  a.word = words.data(), a.position = positions.data(), a.token_type = type_rows.data();
  a.weight = scale.data(), a.bias = shift.data(), a.y = y.mutable_data_ptr();
  a.rows = places.count(), a.places = ids.count(), a.seq = ids.size(1), a.size = size;
  a.words = words.size(0), a.positions = positions.size(0), a.types = type_rows ? type_rows->size(0) : 0;
  a.eps = static_cast<float>(eps), a.type = type;
  queue(op, word, perfq_cuda_embed_layernorm, a);
  return y;
}

}  // namespace

PERFQ_LIBRARY_IMPL(PERFQ_OPS, PERFQ_CUDA, m) { m.impl("embed_layernorm", TORCH_BOX(&embed_layernorm)); }

}  // namespace perfq::cuda
