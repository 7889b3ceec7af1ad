// add_layernorm and what is fused with it, on a GPU: checks shapes and types, makes the outputs, queues the kernel. Reads no value.

#include <tuple>

#include "../csrc/names.h"
#include "places.h"

namespace perfq::cuda {
namespace {

// What all variants of add_layernorm are given, checked, and their output.
struct Call {
  Operand x, residual;
  MaybeOperand linear_bias;
  Operand weight, bias;
  AddLayerNorm arguments{};

  Call(const char* op, const Tensor& x_, const Tensor& residual_, const std::optional<Tensor>& linear_bias_, const Tensor& weight_,
       const Tensor& bias_, double eps)
      : Call(op, x_, residual_, linear_bias_, weight_, bias_, eps, float_type(op, "x", x_), x_.scalar_type()) {}

  int64_t rows() const { return x.size(0); }
  int64_t size() const { return x.size(1); }

 private:
  Call(const char* op, const Tensor& x_, const Tensor& residual_, const std::optional<Tensor>& linear_bias_, const Tensor& weight_,
       const Tensor& bias_, double eps, Type type, ScalarType scalar)
      : x(op, "x", x_, 2, scalar),
        residual(op, "residual", residual_, 2, scalar),
        linear_bias(op, "linear_bias", linear_bias_, 1, scalar),
        weight(op, "weight", weight_, 1, scalar),
        bias(op, "bias", bias_, 1, scalar) {
    agree(op, "x has rows:", x.size(0), "residual", residual.size(0));
    agree(op, "x has features:", x.size(1), "residual", residual.size(1));
    check_features(op, "x", size());
    if (linear_bias) linear_bias->long_as("x has features:", size());
    weight.long_as("x has features:", size());
    bias.long_as("x has features:", size());
    arguments.x = x.data();
    arguments.residual = residual.data();
    arguments.linear_bias = linear_bias.data();
    arguments.weight = weight.data();
    arguments.bias = bias.data();
    arguments.rows = arguments.places = rows();
    arguments.size = size();
    arguments.eps = static_cast<float>(eps);
    arguments.type = type;
  }
};

Tensor add_layernorm(const Tensor& x, const Tensor& residual, std::optional<Tensor> linear_bias, const Tensor& weight,
                     const Tensor& bias, double eps) {
  Call call("add_layernorm", x, residual, linear_bias, weight, bias, eps);
  Tensor y = make_beside(x, {call.rows(), call.size()}, x.scalar_type());
  call.arguments.y = y.mutable_data_ptr();
  queue("add_layernorm", x, perfq_cuda_add_layernorm, call.arguments);
  return y;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> add_layernorm_levels(const Tensor& x, const Tensor& residual,
                                                                std::optional<Tensor> linear_bias, const Tensor& weight,
                                                                const Tensor& bias, double eps, int64_t levels) {
  const char* op = "add_layernorm_levels";
  Call call(op, x, residual, linear_bias, weight, bias, eps);
  Tensor y = make_beside(x, {call.rows(), call.size()}, x.scalar_type());
  Tensor q = make_beside(x, {call.rows(), call.size()}, ScalarType::Byte);
  Tensor scale = make_beside(x, {call.rows()}, ScalarType::Float), zero = make_beside(x, {call.rows()}, ScalarType::Int);
  call.arguments.y = y.mutable_data_ptr();
  call.arguments.levels = {data_of<uint8_t>(q), data_of<float>(scale), data_of<int32_t>(zero), levels_of(op, levels)};
  queue(op, x, perfq_cuda_add_layernorm, call.arguments);
  return {y, q, scale, zero};
}

std::tuple<Tensor, Tensor, Tensor> add_layernorm_f8(const Tensor& x, const Tensor& residual, std::optional<Tensor> linear_bias,
                                                    const Tensor& weight, const Tensor& bias, double eps) {
  const char* op = "add_layernorm_f8";
  Call call(op, x, residual, linear_bias, weight, bias, eps);
  Tensor y = make_beside(x, {call.rows(), call.size()}, x.scalar_type());
  Tensor q = make_beside(x, {call.rows(), call.size()}, ScalarType::Float8_e4m3fn);
  Tensor scale = make_beside(x, {call.rows()}, ScalarType::Float);
  call.arguments.y = y.mutable_data_ptr();
  call.arguments.f8 = {q.mutable_data_ptr(), data_of<float>(scale)};
  queue(op, x, perfq_cuda_add_layernorm, call.arguments);
  return {y, q, scale};
}

Tensor add_layernorm_restore(const Tensor& x, const Tensor& residual, std::optional<Tensor> linear_bias, const Tensor& weight,
                             const Tensor& bias, double eps, const Tensor& index, int64_t batch, int64_t seq) {
  const char* op = "add_layernorm_restore";
  Call call(op, x, residual, linear_bias, weight, bias, eps);
  const Operand places(op, "index", index, 1, ScalarType::Int);
  places.long_as("x has rows:", call.rows());
  check_batch(op, batch, seq);
  Tensor y = make_beside(x, {batch, seq, call.size()}, x.scalar_type());
  call.arguments.y = y.mutable_data_ptr();
  call.arguments.index = places.as<int32_t>();
  call.arguments.places = batch * seq;
  queue(op, x, perfq_cuda_add_layernorm, call.arguments);
  return y;
}

}  // namespace

PERFQ_LIBRARY_IMPL(PERFQ_OPS, PERFQ_CUDA, m) {
  m.impl("add_layernorm", TORCH_BOX(&add_layernorm));
  m.impl("add_layernorm_levels", TORCH_BOX(&add_layernorm_levels));
  m.impl("add_layernorm_f8", TORCH_BOX(&add_layernorm_f8));
  m.impl("add_layernorm_restore", TORCH_BOX(&add_layernorm_restore));
}

}  // namespace perfq::cuda
