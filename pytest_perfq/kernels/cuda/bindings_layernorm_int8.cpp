// add_layernorm_int8 on a GPU: checks shapes and types, makes the output, queues the kernel. Reads no value.

#include "../csrc/names.h"
#include "levels.h"
#include "places.h"

namespace perfq::cuda {
namespace {

Tensor add_layernorm_int8(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias, double eps,
                          std::vector<Tensor> scales, std::vector<Tensor> zeros, int64_t levels) {
  const char* op = "add_layernorm_int8";
  const Type type = float_type(op, "weight", weight);
  const Operand rows(op, "x", x, 2, ScalarType::Byte), others(op, "residual", residual, 2, ScalarType::Byte);
  const Operand scale(op, "weight", weight, 1, weight.scalar_type()), shift(op, "bias", bias, 1, weight.scalar_type());
  const int32_t top = levels_of(op, levels);
  agree(op, "scales holds", static_cast<int64_t>(scales.size()), "it takes", 3);
  agree(op, "zeros holds", static_cast<int64_t>(zeros.size()), "it takes", 3);
  agree(op, "x has rows:", rows.size(0), "residual", others.size(0));
  agree(op, "x has features:", rows.size(1), "residual", others.size(1));
  check_features(op, "x", rows.size(1));
  scale.long_as("x has features:", rows.size(1));
  shift.long_as("x has features:", rows.size(1));
  const HeldLevels x_as(op, "x", scales[0], zeros[0]), residual_as(op, "the residual", scales[1], zeros[1]);
  const HeldLevels y_as(op, "the output", scales[2], zeros[2]);
  Tensor y = make_beside(x, {rows.size(0), rows.size(1)}, ScalarType::Byte);
  AddLayerNormInt8 a{};
  a.x = rows.as<uint8_t>(), a.residual = others.as<uint8_t>(), a.y = data_of<uint8_t>(y);
  a.weight = scale.data(), a.bias = shift.data();
  a.x_as = x_as.pointers(), a.residual_as = residual_as.pointers(), a.y_as = y_as.pointers();
  a.levels = top, a.rows = rows.size(0), a.size = rows.size(1);
  a.eps = static_cast<float>(eps), a.type = type;
  queue(op, x, perfq_cuda_add_layernorm_int8, a);
  return y;
}

}  // namespace

PERFQ_LIBRARY_IMPL(PERFQ_OPS, PERFQ_CUDA, m) { m.impl("add_layernorm_int8", TORCH_BOX(&add_layernorm_int8)); }

}  // namespace perfq::cuda
