// The linears, in float, bfloat16 and INT8, and the packing of their weights.

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <limits>

#include "bindings.h"

namespace perfq {
namespace {

Tensor pack_weight_bf16(const char* op, const Tensor& weight) {
  const Input<BFloat16> rows(op, "weight", weight, 2);
  const int64_t out = rows.size(0), in = at_least_one(op, "the number of in features", rows.size(1));
  Tensor packed = make({round_up(out, kBf16Panel) * round_up(in, 2)}, ScalarType::BFloat16);
  uint32_t* pairs = reinterpret_cast<uint32_t*>(data_of<BFloat16>(packed));
  pack_panels_bf16(reinterpret_cast<const uint16_t*>(rows.data()), out, in, pairs);
  return packed;
}

Tensor pack_weight(const Tensor& weight) {
  const char* op = "pack_weight";
  if (weight.scalar_type() == ScalarType::BFloat16) return pack_weight_bf16(op, weight);
  const Input<float> rows(op, "weight", weight, 2);
  const int64_t out = rows.size(0), in = at_least_one(op, "the number of in features", rows.size(1));
  Tensor packed = make({round_up(out, kFloatPanel) * in}, ScalarType::Float);
  pack_panels(rows.data(), out, in, data_of<float>(packed));
  return packed;
}

Tensor linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, int64_t out_features,
              std::string activation) {
  const char* op = "linear";
  const Input<float> rows(op, "x", x, 2);
  const FloatWeight packed(op, "weight", weight, weight.scalar_type() == ScalarType::BFloat16);
  const MaybeInput<float> shift(op, "bias", bias, 1);
  const Activation after = activation_of(op, activation);
  const int64_t in = at_least_one(op, "the number of in features", rows.size(1));
  at_least_one(op, "out_features", out_features);
  agree(op, "the packed weight has numbers:", packed.count(), "these features need", packed.needed(out_features, in));
  if (shift) agree(op, "bias has numbers:", shift.count(), "out_features is", out_features);
  const int64_t tokens = rows.size(0);
  Tensor y = make({tokens, out_features}, ScalarType::Float);
  float* to = data_of<float>(y);
  if (packed.pairs()) {
    bf16_kernels(op).linear_bf16({rows.data(), packed.pairs(), shift.data(), to, tokens, in, out_features, after}, workers());
  } else {
    kernels().linear({rows.data(), packed.floats(), shift.data(), to, tokens, in, out_features, after}, workers());
  }
  return y;
}

int32_t levels_of(Bits bits) { return bits == Bits::kW8A8 ? 255 : 127; }

// What keeps the int16 sums of linear_int8 from saturating, where -128 would break the widest by itself, and its int32 sums from
// wrapping around.
void check_weights(const char* op, const Input<int8_t>& rows, const std::string& bits, Bits kind) {
  const int limit = kind == Bits::kW7A7 ? 63 : 127;
  const int64_t in = rows.size(1), most = std::numeric_limits<int32_t>::max() / levels_of(kind);
  for (int64_t row = 0; row < rows.size(0); ++row) {
    int64_t sum = 0;
    for (int64_t k = 0; k < in; ++k) {
      const int value = rows.data()[row * in + k];
      if (value < -limit || value > limit) refuse(op, "a weight is ", value, "; ", bits, " takes -", limit, " to ", limit);
      sum += value < 0 ? -value : value;
    }
    if (sum <= most) continue;
    refuse(op, "the weights of row ", row, " add up to ", sum, ", whose products may not fit an int32; ", bits, " takes ", most);
  }
  const int together = added_in_int16(kind);
  if (together == 0) return;
  for (int64_t at = 0; at < rows.count(); at += in) {
    const int8_t* row = rows.data() + at;
    for (int64_t k = 0; k < in; k += 2 * together) {
      int sums[2] = {};
      for (int64_t i = k; i < std::min(in, k + 2 * together); ++i) sums[i / 2 % 2] += row[i] < 0 ? -row[i] : row[i];
      const int sum = std::max(sums[0], sums[1]);
      if (sum <= kInt16Weights) continue;
      refuse(op, "the weights of row ", at / in, " whose products are added in one int16 near column ", k, " add up to ", sum,
             "; ", bits, " takes ", kInt16Weights);
    }
  }
}

Tensor pack_weight_int8(const Tensor& weight, std::string bits) {
  const char* op = "pack_weight_int8";
  const Input<int8_t> rows(op, "weight", weight, 2);
  const Bits kind = bits_of(op, bits);
  const int64_t out = rows.size(0), in = at_least_one(op, "the number of in features", rows.size(1));
  check_weights(op, rows, bits, kind);
  Tensor packed = make({round_up(out, kInt8Panel) * round_up(in, int8_depth(kind))}, ScalarType::Char);
  pack_panels_int8(rows.data(), out, in, kind, data_of<int8_t>(packed));
  return packed;
}

// What a byte of x may be: a larger one would saturate the sums that check_weights keeps whole.
void check_levels(const char* op, const Input<uint8_t>& rows, const std::string& bits, int32_t levels) {
  if (levels == 255) return;
  const uint8_t* x = rows.data();
  const int64_t count = rows.count();
  uint8_t largest = 0;
  for (int64_t at = 0; at < count; ++at) largest = std::max(largest, x[at]);
  if (largest > levels) refuse(op, "a value of x is ", largest, "; ", bits, " takes 0 to ", levels);
}

Tensor linear_int8(const Tensor& x, const Tensor& weight, const Tensor& weight_scale, const Tensor& weight_sum,
                   const std::optional<Tensor>& bias, const std::optional<Tensor>& input_scale,
                   const std::optional<Tensor>& input_zero, const std::optional<Tensor>& output_scale,
                   const std::optional<Tensor>& output_zero, std::string bits, std::string activation) {
  const char* op = "linear_int8";
  const bool bytes = x.scalar_type() == ScalarType::Byte;
  std::optional<Input<float>> rows;
  std::optional<Input<uint8_t>> rows8;
  if (bytes) {
    rows8.emplace(op, "x", x, 2);
  } else {
    rows.emplace(op, "x", x, 2);
  }
  const Input<int8_t> packed(op, "weight", weight, 1);
  const Input<float> scales(op, "weight_scale", weight_scale, 1);
  const Input<int32_t> sums(op, "weight_sum", weight_sum, 1);
  const MaybeInput<float> shift(op, "bias", bias, 1);
  LinearInt8 call{};
  call.bits = bits_of(op, bits);
  call.activation = activation_of(op, activation);
  call.rows = x.size(0), call.in = at_least_one(op, "the number of in features", x.size(1));
  call.out = at_least_one(op, "the number of out features", scales.count());
  agree(op, "the packed weight has numbers:", packed.count(), "these features need",
        round_up(call.out, kInt8Panel) * round_up(call.in, int8_depth(call.bits)));
  agree(op, "weight_scale has numbers:", scales.count(), "weight_sum", sums.count());
  if (shift) agree(op, "bias has numbers:", shift.count(), "weight_scale", scales.count());
  aligned(op, packed.data(), kInt8Alignment);
  if (input_scale.has_value() != input_zero.has_value() || (bytes && !input_scale)) {
    refuse(op, "input_scale and input_zero go together, and a uint8 x needs both");
  }
  if (output_scale.has_value() != output_zero.has_value()) refuse(op, "output_scale and output_zero go together");
  const int32_t levels = levels_of(call.bits);
  if (rows8) check_levels(op, *rows8, bits, levels);
  Quantized in_as{}, out_as{};
  if (input_scale) {
    in_as = quantized_as(op, "the input", *input_scale, *input_zero, levels);
    call.input_scale = &in_as.scale, call.input_zero = &in_as.zero;
  }
  if (output_scale) {
    out_as = quantized_as(op, "the output", *output_scale, *output_zero, levels);
    call.output_scale = &out_as.scale, call.output_zero = &out_as.zero;
  }
  call.x = rows ? rows->data() : nullptr, call.x8 = rows8 ? rows8->data() : nullptr;
  call.weight = packed.data(), call.weight_scale = scales.data(), call.weight_sum = sums.data(), call.bias = shift.data();
  Tensor y = make({call.rows, call.out}, output_scale ? ScalarType::Byte : ScalarType::Float);
  if (output_scale) {
    call.y8 = data_of<uint8_t>(y);
  } else {
    call.y = data_of<float>(y);
  }
  kernels().linear_int8(call, workers());
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(perfq, CPU, m) {
  m.impl("pack_weight", TORCH_BOX(&pack_weight));
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("pack_weight_int8", TORCH_BOX(&pack_weight_int8));
  m.impl("linear_int8", TORCH_BOX(&linear_int8));
}

}  // namespace perfq
