// A whole layer of the encoder, in float, bfloat16 or INT8 with a scale a row.

#include <torch/csrc/stable/library.h>

#include "bindings.h"

namespace perfq {
namespace {

// The inputs of one linear of a layer, checked as the linears' own ops do, and held.
struct HeldLinear {
  HeldLinear(const char* op, const std::string& bits, const Tensor& packed, const Tensor* scale, const Tensor* sum,
             const Tensor& shift, int64_t in, int64_t out)
      : bias(op, "one of biases", shift, 1) {
    agree(op, "one of biases has numbers:", bias.count(), "the layer needs", out);
    int64_t needed = 0;
    if (!scale) {
      needed = weight.emplace(op, "one of packed", packed, bits == "bf16").needed(out, in);
    } else {
      weight8.emplace(op, "one of packed", packed, 1);
      scales.emplace(op, "a scale in scales", *scale, 1);
      sums.emplace(op, "one of sums", *sum, 1);
      agree(op, "a scale in scales has numbers:", scales->count(), "the layer needs", out);
      agree(op, "one of sums has numbers:", sums->count(), "the layer needs", out);
      needed = round_up(out, kInt8Panel) * round_up(in, int8_depth(bits_of(op, bits)));
      aligned(op, weight8->data(), kInt8Alignment);
    }
    agree(op, "one of packed has numbers:", packed.numel(), "the layer needs", needed);
  }

  LayerLinear pointers() const {
    if (weight) return {weight->floats(), weight->pairs(), nullptr, nullptr, nullptr, bias.data()};
    return {nullptr, nullptr, weight8->data(), scales->data(), sums->data(), bias.data()};
  }

  Input<float> bias;
  std::optional<FloatWeight> weight;
  std::optional<Input<float>> scales;
  std::optional<Input<int8_t>> weight8;
  std::optional<Input<int32_t>> sums;
};

Tensor layer(const Tensor& x, const Tensor& cu_seqlens, std::vector<Tensor> packed, std::vector<Tensor> scales,
             std::vector<Tensor> sums, std::vector<Tensor> biases, std::vector<Tensor> norms, int64_t heads, double scale,
             double attention_eps, double output_eps, std::string bits, std::string activation) {
  const char* op = "layer";
  const Input<float> rows(op, "x", x, 2);
  const Input<int32_t> starts(op, "cu_seqlens", cu_seqlens, 1);
  const int64_t hidden = at_least_one(op, "the hidden size", rows.size(1));
  const bool bf16 = bits == "bf16", int8 = !bf16 && bits != "fp32";
  const Kernels& runs = bf16 ? bf16_kernels(op) : kernels();
  check_sequences(op, starts, rows.size(0));
  agree(op, "packed holds", packed.size(), "it takes", 4);
  agree(op, "biases holds", biases.size(), "it takes", 4);
  agree(op, "norms holds", norms.size(), "it takes", 4);
  agree(op, "scales holds", scales.size(), "it takes", int8 ? 4 : 0);
  agree(op, "sums holds", sums.size(), "it takes", int8 ? 4 : 0);
  Layer call{};
  call.size = head_size(op, 3 * hidden, heads);
  call.inner = at_least_one(op, "the inner size", biases[2].numel());
  call.int8 = int8, call.activation = activation_of(op, activation);
  if (int8) call.bits = bits_of(op, bits);
  const auto held = [&](int at, int64_t in, int64_t out) {
    return HeldLinear(op, bits, packed[at], int8 ? &scales[at] : nullptr, int8 ? &sums[at] : nullptr, biases[at], in, out);
  };
  const HeldLinear qkv = held(0, hidden, 3 * hidden), out = held(1, hidden, hidden);
  const HeldLinear up = held(2, hidden, call.inner), down = held(3, call.inner, hidden);
  const Input<float> norm[4] = {{op, "one of norms", norms[0], 1}, {op, "one of norms", norms[1], 1},
                                {op, "one of norms", norms[2], 1}, {op, "one of norms", norms[3], 1}};
  for (const Input<float>& one : norm) agree(op, "x has features:", hidden, "one of norms", one.count());
  Tensor y = make({rows.size(0), hidden}, ScalarType::Float);
  call.x = rows.data(), call.y = data_of<float>(y), call.cu_seqlens = starts.data();
  call.sequences = starts.count() - 1, call.heads = heads, call.scale = static_cast<float>(scale);
  call.qkv = qkv.pointers(), call.out = out.pointers(), call.up = up.pointers(), call.down = down.pointers();
  call.attention_norm = {norm[0].data(), norm[1].data(), static_cast<float>(attention_eps)};
  call.output_norm = {norm[2].data(), norm[3].data(), static_cast<float>(output_eps)};
  runs.layer(call, workers());
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(perfq, CPU, m) {
  m.impl("layer", TORCH_BOX(&layer));
}

}  // namespace perfq
