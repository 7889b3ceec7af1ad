// bias_activation and its outputs in bytes, on a GPU: checks shapes and types, makes the outputs, queues the kernel. Reads no
// value.

#include <tuple>

#include "../csrc/names.h"
#include "places.h"

namespace perfq::cuda {
namespace {

// What all variants are given, checked.
struct Call {
  Operand x;
  MaybeOperand bias;
  BiasActivation arguments{};

  Call(const char* op, const Tensor& x_, const std::optional<Tensor>& bias_, const std::string& activation)
      : Call(op, x_, bias_, activation, float_type(op, "x", x_)) {}

  int64_t rows() const { return x.size(0); }
  int64_t size() const { return x.size(1); }

 private:
  Call(const char* op, const Tensor& x_, const std::optional<Tensor>& bias_, const std::string& activation, Type type)
      : x(op, "x", x_, 2, x_.scalar_type()), bias(op, "bias", bias_, 1, x_.scalar_type()) {
    if (bias) bias->long_as("x has features:", size());
    arguments.x = x.data();
    arguments.bias = bias.data();
    arguments.rows = rows();
    arguments.size = size();
    arguments.how = activation_of(op, activation);
    arguments.type = type;
  }
};

Tensor bias_activation(const Tensor& x, std::optional<Tensor> bias, std::string activation) {
  const char* op = "bias_activation";
  Call call(op, x, bias, activation);
  Tensor y = make_beside(x, {call.rows(), call.size()}, x.scalar_type());
  call.arguments.y = y.mutable_data_ptr();
  queue(op, x, perfq_cuda_bias_activation, call.arguments);
  return y;
}

std::tuple<Tensor, Tensor, Tensor> bias_activation_levels(const Tensor& x, std::optional<Tensor> bias, std::string activation,
                                                          int64_t levels) {
  const char* op = "bias_activation_levels";
  Call call(op, x, bias, activation);
  check_features(op, "x", call.size());
  Tensor q = make_beside(x, {call.rows(), call.size()}, ScalarType::Byte);
  Tensor scale = make_beside(x, {call.rows()}, ScalarType::Float), zero = make_beside(x, {call.rows()}, ScalarType::Int);
  call.arguments.levels = {data_of<uint8_t>(q), data_of<float>(scale), data_of<int32_t>(zero), levels_of(op, levels)};
  queue(op, x, perfq_cuda_bias_activation, call.arguments);
  return {q, scale, zero};
}

std::tuple<Tensor, Tensor> bias_activation_f8(const Tensor& x, std::optional<Tensor> bias, std::string activation) {
  const char* op = "bias_activation_f8";
  Call call(op, x, bias, activation);
  check_features(op, "x", call.size());
  Tensor q = make_beside(x, {call.rows(), call.size()}, ScalarType::Float8_e4m3fn);
  Tensor scale = make_beside(x, {call.rows()}, ScalarType::Float);
  call.arguments.f8 = {q.mutable_data_ptr(), data_of<float>(scale)};
  queue(op, x, perfq_cuda_bias_activation, call.arguments);
  return {q, scale};
}

}  // namespace

PERFQ_LIBRARY_IMPL(PERFQ_OPS, PERFQ_CUDA, m) {
  m.impl("bias_activation", TORCH_BOX(&bias_activation));
  m.impl("bias_activation_levels", TORCH_BOX(&bias_activation_levels));
  m.impl("bias_activation_f8", TORCH_BOX(&bias_activation_f8));
}

}  // namespace perfq::cuda
