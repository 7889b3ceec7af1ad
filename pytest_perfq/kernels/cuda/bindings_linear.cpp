// The products of the tensor cores, on a GPU: checks shapes and types, makes the outputs, queues the kernels. Reads no value.

#include "../csrc/names.h"
#include "tensors.h"

namespace perfq::cuda {
namespace {

// Sums of this many products of a uint8 and an int8 fit an int32, and so does zero times the weight's sum.
constexpr int64_t kMostFeatures = 65536;
// Copies to shared memory take rows apart by 16 bytes; a weight in bytes is packed to whole products.
constexpr int64_t kFloatMultiple = 8, kBytesMultiple = 16, kWeightMultiple = 32;
constexpr int32_t kBF16Capability = 80;

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

Type type_of(const char* op, const char* name, ScalarType given) {
  switch (given) {
    case ScalarType::Float: return Type::kF32;
    case ScalarType::Half: return Type::kF16;
    case ScalarType::BFloat16: return Type::kBF16;
    default: refuse(op, name, " is ", type_name(given), ", not float32, float16 or bfloat16");
  }
}

Tile tile_of(const char* op, int64_t tile) {
  if (tile < 0 || tile > 3) refuse(op, "tile is ", tile, "; it is 0 (chosen here), 1 (128 x 128), 2 (64 x 64) or 3 (32 x 32)");
  return static_cast<Tile>(tile);
}

int64_t features(const char* op, const char* name, int64_t in) {
  if (in < 1 || in > kMostFeatures) refuse(op, name, " has ", in, " features; 1 to ", kMostFeatures, " are run");
  return in;
}

void check_has_products(const char* op, const Tensor& x) {
  if (x.scalar_type() == ScalarType::Half) return;
  if (x.scalar_type() != ScalarType::BFloat16) {
    refuse(op, "x is ", type_name(x.scalar_type()), ", not float16 or bfloat16");
  }
#ifndef PERFQ_EMULATED
  const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
#endif
  Processor on;
  if (const int code = perfq_cuda_processor(&on)) refuse(op, "the GPU cannot be asked: ", perfq_cuda_error(code));
  if (on.capability >= kBF16Capability) return;
  refuse(op, "x is bfloat16, which is multiplied from compute capability 8.0 on, and this GPU has ", on.capability / 10, ".",
         on.capability % 10, "; take float16");
}

Tensor linear_fused(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, std::string activation,
                    int64_t tile) {
  const char* op = "linear_fused";
  const Operand rows(op, "x", x, 2, x.scalar_type());
  check_has_products(op, x);
  const Operand matrix(op, "weight", weight, 2, x.scalar_type());
  const MaybeOperand shift(op, "bias", bias, 1, x.scalar_type());
  Linear call{};
  call.in = features(op, "x", rows.size(1));
  if (call.in % kFloatMultiple) refuse(op, "x has ", call.in, " features; multiples of ", kFloatMultiple, " are run");
  agree(op, "x has features:", call.in, "the weight", matrix.size(1));
  call.rows = rows.size(0), call.out = matrix.size(0);
  if (shift) shift->long_as("the weight has rows:", call.out);
  call.x = rows.data(), call.weight = matrix.data(), call.bias = shift.data();
  call.how = activation_of(op, activation), call.type = type_of(op, "x", x.scalar_type()), call.tile = tile_of(op, tile);
  Tensor y = make_beside(x, {call.rows, call.out}, x.scalar_type());
  call.y = y.mutable_data_ptr();
  queue(op, x, perfq_cuda_linear, call);
  return y;
}

// The weight's side of an INT8 product, checked.
struct Weights {
  Operand packed, scale, sum;
  MaybeOperand bias;

  Weights(const char* op, const Tensor& packed_, const Tensor& scale_, const Tensor& sum_, const std::optional<Tensor>& bias_,
          ScalarType type, int64_t in)
      : packed(op, "weight", packed_, 1, ScalarType::Char),
        scale(op, "weight_scale", scale_, 1, ScalarType::Float),
        sum(op, "weight_sum", sum_, 1, ScalarType::Int),
        bias(op, "bias", bias_, 1, type) {
    const int64_t needed = scale.count() * round_up(in, kWeightMultiple);
    agree(op, "the packed weight has numbers:", packed.count(), "these features need", needed);
    sum.long_as("weight_scale has numbers:", scale.count());
    if (bias) bias->long_as("weight_scale has numbers:", scale.count());
  }

  // Everything but x, how it is quantized, and where the outputs go.
  LinearInt8 call(const char* op, int64_t rows, int64_t in, const std::string& activation, ScalarType type) const {
    LinearInt8 made{};
    made.weight = packed.as<int8_t>(), made.weight_scale = scale.as<float>(), made.weight_sum = sum.as<int32_t>();
    made.bias = bias.data();
    made.rows = rows, made.in = in, made.in_padded = round_up(in, kWeightMultiple), made.out = scale.count();
    made.how = activation_of(op, activation), made.type = type_of(op, "dtype", type);
    return made;
  }
};

// Levels [T, K] with the rows 16 bytes apart: as they are, or copied where K is no such multiple.
Operand apart(const char* op, const char* name, const Tensor& q, int64_t in) {
  const Operand given(op, name, q, 2, ScalarType::Byte);
  if (in % kBytesMultiple == 0) return given;
  const int64_t behind[] = {0, round_up(in, kBytesMultiple) - in};
  return Operand(op, name, torch::stable::pad(given.tensor(), torch::headeronly::IntHeaderOnlyArrayRef(behind, 2)), 2,
                 ScalarType::Byte);
}

Tensor linear_levels(const Tensor& q, const Tensor& scale, const Tensor& zero, const Tensor& weight, const Tensor& weight_scale,
                     const Tensor& weight_sum, const std::optional<Tensor>& bias, std::string activation, ScalarType dtype,
                     int64_t tile) {
  const char* op = "linear_levels";
  type_of(op, "dtype", dtype);
  if (q.dim() != 2) refuse(op, "q has ", q.dim(), " dimensions, not 2");
  const int64_t tokens = q.size(0), in = features(op, "q", q.size(1));
  const Operand rows = apart(op, "q", q, in);
  const Operand scales(op, "scale", scale, 1, ScalarType::Float), zeros(op, "zero", zero, 1, ScalarType::Int);
  if (scales.count() != 1) scales.long_as("q has rows:", tokens);
  zeros.long_as("scale has numbers:", scales.count());
  const Weights by(op, weight, weight_scale, weight_sum, bias, dtype, in);
  LinearInt8 call = by.call(op, tokens, in, activation, dtype);
  call.x = rows.as<uint8_t>(), call.in = rows.size(1);
  call.input_scale = scales.as<float>(), call.input_zero = zeros.as<int32_t>(), call.per_row = scales.count() != 1;
  call.tile = tile_of(op, tile);
  Tensor y = make_beside(q, {tokens, call.out}, dtype);
  call.y = y.mutable_data_ptr();
  queue(op, q, perfq_cuda_linear_int8, call);
  return y;
}

// A scale and a zero that an op is given together, or neither.
struct Pair {
  MaybeOperand scale, zero;

  Pair(const char* op, const char* scale_name, const char* zero_name, const std::optional<Tensor>& scale_,
       const std::optional<Tensor>& zero_)
      : scale(op, scale_name, scale_, 1, ScalarType::Float), zero(op, zero_name, zero_, 1, ScalarType::Int) {
    if (scale_.has_value() != zero_.has_value()) refuse(op, scale_name, " and ", zero_name, " go together");
    if (scale) scale->long_as("it takes", 1), zero->long_as("it takes", 1);
  }
  explicit operator bool() const { return static_cast<bool>(scale); }
  Levels levels() const {
    if (!scale) return {nullptr, nullptr};
    return {scale->as<float>(), zero->as<int32_t>()};
  }
};

// Float rows as levels with a scale a row, which is NaN where the row is not finite.
struct Quantized {
  Tensor q, scale, zero;

  Quantized(const char* op, const Tensor& x, const Levels& as, int64_t in)
      : q(make_beside(x, {x.size(0), round_up(in, kWeightMultiple)}, ScalarType::Byte)),
        scale(make_beside(x, {x.size(0)}, ScalarType::Float)),
        zero(make_beside(x, {x.size(0)}, ScalarType::Int)) {
    const Operand rows(op, "x", x, 2, x.scalar_type());
    const QuantizeRows call = {rows.data(),     data_of<uint8_t>(q), data_of<float>(scale), data_of<int32_t>(zero), as, 255,
                               rows.size(0), in, q.size(1), type_of(op, "x", x.scalar_type())};
    queue(op, x, perfq_cuda_quantize_rows, call);
  }
};

Tensor linear_int8(const Tensor& x, const Tensor& weight, const Tensor& weight_scale, const Tensor& weight_sum,
                   const std::optional<Tensor>& bias, const std::optional<Tensor>& input_scale,
                   const std::optional<Tensor>& input_zero, const std::optional<Tensor>& output_scale,
                   const std::optional<Tensor>& output_zero, std::string bits, std::string activation) {
  const char* op = "linear_int8";
  if (bits != "w8a8") refuse(op, "bits are ", bits, "; a GPU runs w8a8");
  const bool bytes = x.scalar_type() == ScalarType::Byte;
  if (!bytes) type_of(op, "x", x.scalar_type());
  if (x.dim() != 2) refuse(op, "x has ", x.dim(), " dimensions, not 2");
  const Pair in_as(op, "input_scale", "input_zero", input_scale, input_zero);
  const Pair out_as(op, "output_scale", "output_zero", output_scale, output_zero);
  if (bytes && !in_as) refuse(op, "x is uint8, and nothing says of which scale; give it input_scale and input_zero");
  // Between bytes the bias alone is a float.
  const ScalarType type = !bytes ? x.scalar_type() : out_as && bias ? bias->scalar_type() : ScalarType::Float;
  const int64_t in = features(op, "x", x.size(1));
  const Weights by(op, weight, weight_scale, weight_sum, bias, type, in);
  LinearInt8 call = by.call(op, x.size(0), in, activation, type);
  std::optional<Operand> rows;
  std::optional<Quantized> made;
  if (bytes) {
    rows.emplace(apart(op, "x", x, in));
    call.x = rows->as<uint8_t>(), call.in = rows->size(1);
    call.input_scale = in_as.levels().scale, call.input_zero = in_as.levels().zero;
  } else {
    made.emplace(op, x, in_as.levels(), in);
    call.x = data_of<uint8_t>(made->q), call.in = made->q.size(1);
    call.input_scale = data_of<float>(made->scale), call.input_zero = data_of<int32_t>(made->zero), call.per_row = true;
  }
  call.out_as = out_as.levels(), call.levels = 255;
  Tensor y = make_beside(x, {call.rows, call.out}, out_as ? ScalarType::Byte : type);
  if (out_as) {
    call.q = data_of<uint8_t>(y);
  } else {
    call.y = y.mutable_data_ptr();
  }
  queue(op, x, perfq_cuda_linear_int8, call);
  return y;
}

// The kernels read weights as they are, so packing makes rows flat, and of bytes a multiple of 32 long.
Tensor pack_weight(const Tensor& weight) {
  type_of("pack_weight", "weight", weight.scalar_type());
  const Operand rows("pack_weight", "weight", weight, 2, weight.scalar_type());
  return torch::stable::flatten(torch::stable::clone(rows.tensor()));
}

Tensor pack_weight_int8(const Tensor& weight, std::string bits) {
  const char* op = "pack_weight_int8";
  if (bits != "w8a8") refuse(op, "bits are ", bits, "; a GPU runs w8a8");
  const Operand rows(op, "weight", weight, 2, ScalarType::Char);
  const int64_t in = rows.size(1), behind[] = {0, round_up(in, kWeightMultiple) - in};
  if (in < 1) refuse(op, "weight has ", in, " features; it takes at least 1");
  if (behind[1] == 0) return torch::stable::flatten(torch::stable::clone(rows.tensor()));
  return torch::stable::flatten(torch::stable::pad(rows.tensor(), torch::headeronly::IntHeaderOnlyArrayRef(behind, 2)));
}

}  // namespace

PERFQ_LIBRARY_IMPL(PERFQ_OPS, PERFQ_CUDA, m) {
  m.impl("linear_fused", TORCH_BOX(&linear_fused));
  m.impl("linear_levels", TORCH_BOX(&linear_levels));
  m.impl("linear_int8", TORCH_BOX(&linear_int8));
  m.impl("pack_weight", TORCH_BOX(&pack_weight));
  m.impl("pack_weight_int8", TORCH_BOX(&pack_weight_int8));
}

}  // namespace perfq::cuda
