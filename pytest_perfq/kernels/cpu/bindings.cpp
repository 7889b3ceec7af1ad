// Every op of csrc/schema.cpp on the CPU: checks what it is given, makes the output, calls the launcher. Alone in knowing
// torch, and that through its stable ABI.

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <tuple>

#include "launch.h"
#include "tensors.h"

namespace perfq {
namespace {

constexpr int64_t kMostSequences = 4096;
constexpr int64_t kMostPositions = 4096;

std::atomic<const Kernels*> chosen{find_kernels("auto")};

const Kernels& kernels() { return *chosen.load(std::memory_order_relaxed); }

Workers workers() {
  return {static_cast<int>(torch::stable::get_num_threads()),
          [](int64_t count, int64_t grain, void (*body)(int64_t, int64_t, void*), void* context) {
            torch::stable::parallel_for(0, count, grain, [=](int64_t begin, int64_t end) { body(begin, end, context); });
          }};
}

std::string select_isa(std::string wanted) {
  const Kernels* found = find_kernels(wanted.c_str());
  if (!found) refuse("select_isa", "this processor has no '", wanted, "'; choose auto, avx2 or portable");
  chosen.store(found);
  return found->isa;
}

Activation activation_of(const char* op, const std::string& name) {
  if (name == "none") return Activation::kNone;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  if (name == "relu") return Activation::kRelu;
  if (name == "tanh") return Activation::kTanh;
  refuse(op, "unknown activation '", name, "'; known: none, relu, tanh, gelu, gelu_tanh");
}

Bits bits_of(const char* op, const std::string& name) {
  if (name == "w8a8") return Bits::kW8A8;
  if (name == "w8a7") return Bits::kW8A7;
  if (name == "w7a7") return Bits::kW7A7;
  refuse(op, "unknown bits '", name, "'; known: w8a8, w8a7, w7a7");
}

int32_t levels_of(const char* op, int64_t levels) {
  if (levels != 255 && levels != 127) refuse(op, "levels is ", levels, "; it is 255 (8 bits) or 127 (7 bits)");
  return static_cast<int32_t>(levels);
}

int64_t at_least_one(const char* op, const char* what, int64_t value) {
  if (value < 1) refuse(op, what, " is ", value, "; it must be at least 1");
  return value;
}

// One scale and zero; on the CPU their values can be looked at.
Quantized quantized_as(const char* op, const char* of, const Tensor& scale, const Tensor& zero, int32_t levels) {
  const std::string scale_name = std::string("the scale of ") + of, zero_name = std::string("the zero of ") + of;
  const Input<float> scales(op, scale_name.c_str(), scale, 1);
  const Input<int32_t> zeros(op, zero_name.c_str(), zero, 1);
  if (scales.count() != 1) refuse(op, scale_name, " holds ", scales.count(), " numbers, not 1");
  if (zeros.count() != 1) refuse(op, zero_name, " holds ", zeros.count(), " numbers, not 1");
  const float step = *scales.data();
  if (!(step > 0.0f) || !(step < std::numeric_limits<float>::infinity())) {
    refuse(op, scale_name, " is ", step, "; it must be positive and finite");
  }
  const int32_t offset = *zeros.data();
  if (offset < 0 || offset > levels) refuse(op, zero_name, " is ", offset, "; it must lie within 0 and ", levels);
  return {step, offset, levels};
}

// Sequences lie one after the other and cover all tokens; the longest is within the limit.
void check_sequences(const char* op, const Input<int32_t>& cu_seqlens, int64_t tokens) {
  const int64_t sequences = cu_seqlens.count() - 1;
  if (sequences < 0) refuse(op, "cu_seqlens is empty; it holds one number more than there are sequences");
  if (sequences > kMostSequences) refuse(op, "there are ", sequences, " sequences; at most ", kMostSequences, " are run at once");
  const int32_t* starts = cu_seqlens.data();
  if (starts[0] != 0) refuse(op, "cu_seqlens begins with ", starts[0], ", not 0");
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t length = int64_t{starts[s + 1]} - starts[s];
    if (length < 0) refuse(op, "cu_seqlens falls from ", starts[s], " to ", starts[s + 1], " at sequence ", s);
    if (length > kMostPositions) refuse(op, "sequence ", s, " has ", length, " tokens; at most ", kMostPositions, " are run");
  }
  agree(op, "cu_seqlens ends with", starts[sequences], "the tokens are", tokens);
}

void check_index(const char* op, const Input<int32_t>& index, int64_t places) {
  const int32_t* at = index.data();
  for (int64_t token = 0; token < index.count(); ++token) {
    const bool rises = token == 0 || at[token] > at[token - 1];
    if (at[token] < 0 || at[token] >= places || !rises) {
      refuse(op, "index ", at[token], " of token ", token, " is not a place after the last one within 0 and ", places - 1);
    }
  }
}

std::tuple<Tensor, Tensor> pack_tokens(const Tensor& mask, int64_t tokens) {
  const char* op = "pack_tokens";
  const Input<int64_t> given(op, "mask", mask, 2);
  const int64_t batch = given.size(0), seq = given.size(1);
  if (batch > kMostSequences) refuse(op, "the batch has ", batch, " rows; at most ", kMostSequences, " are run at once");
  if (seq > kMostPositions) refuse(op, "the batch is ", seq, " tokens wide; at most ", kMostPositions, " are run");
  Tensor cu_seqlens = make({batch + 1}, ScalarType::Int), index = make({tokens}, ScalarType::Int);
  int32_t* starts = data_of<int32_t>(cu_seqlens);
  int32_t* places = data_of<int32_t>(index);
  int64_t found = 0;
  starts[0] = 0;
  for (int64_t row = 0; row < batch; ++row) {
    for (int64_t column = 0; column < seq; ++column) {
      const int64_t place = row * seq + column;
      if (given.data()[place] == 0) continue;
      if (found < tokens) places[found] = static_cast<int32_t>(place);
      ++found;
    }
    starts[row + 1] = static_cast<int32_t>(found);
  }
  agree(op, "the mask has real tokens:", found, "tokens is", tokens);
  return {cu_seqlens, index};
}

Tensor restore_padding(const Tensor& x, const Tensor& index, int64_t batch, int64_t seq) {
  const char* op = "restore_padding";
  const Input<float> rows(op, "x", x, 2);
  const Input<int32_t> places(op, "index", index, 1);
  agree(op, "x has rows:", rows.size(0), "index", places.count());
  if (batch < 0 || seq < 0) refuse(op, "batch is ", batch, " and seq ", seq, "; neither can be negative");
  check_index(op, places, batch * seq);
  Tensor y = make({batch, seq, rows.size(1)}, ScalarType::Float);
  kernels().restore({rows.data(), places.data(), data_of<float>(y), rows.size(0), batch * seq, rows.size(1)}, workers());
  return y;
}

Tensor pool(const Tensor& x, const Tensor& cu_seqlens, std::string how, bool normalize) {
  const char* op = "pool";
  const Input<float> rows(op, "x", x, 2);
  const Input<int32_t> starts(op, "cu_seqlens", cu_seqlens, 1);
  check_sequences(op, starts, rows.size(0));
  Pooling pooling = Pooling::kCls;
  if (how == "mean") {
    pooling = Pooling::kMean;
  } else if (how == "max") {
    pooling = Pooling::kMax;
  } else if (how != "cls") {
    refuse(op, "unknown pooling '", how, "'; known: cls, mean, max");
  }
  const int64_t sequences = starts.count() - 1;
  Tensor y = make({sequences, rows.size(1)}, ScalarType::Float);
  kernels().pool({rows.data(), starts.data(), data_of<float>(y), sequences, rows.size(1), pooling, normalize}, workers());
  return y;
}

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

void three(const char* op, const std::vector<Tensor>& scales, const std::vector<Tensor>& zeros, size_t wanted) {
  agree(op, "scales holds", scales.size(), "it takes", wanted);
  agree(op, "zeros holds", zeros.size(), "it takes", wanted);
}

Tensor add_layernorm_int8(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias, double eps,
                          std::vector<Tensor> scales, std::vector<Tensor> zeros, int64_t levels) {
  const char* op = "add_layernorm_int8";
  const Input<uint8_t> rows(op, "x", x, 2), others(op, "residual", residual, 2);
  const Input<float> scale(op, "weight", weight, 1), shift(op, "bias", bias, 1);
  const int64_t size = at_least_one(op, "the hidden size", rows.size(1));
  const int32_t top = levels_of(op, levels);
  three(op, scales, zeros, 3);
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

// What both attentions ask of their shapes; the head size.
int64_t head_size(const char* op, int64_t features, int64_t heads) {
  at_least_one(op, "heads", heads);
  if (features % (3 * heads) != 0) {
    refuse(op, "qkv has ", features, " features, which queries, keys and values of ", heads, heads == 1 ? " head" : " heads", " cannot share");
  }
  const int64_t size = features / (3 * heads);
  if (size % 8 != 0 || size < 8 || size > kMaxHeadSize) {
    refuse(op, "the head size is ", size, "; it must be a multiple of 8 from 8 to ", kMaxHeadSize);
  }
  return size;
}

Tensor varlen_attention(const Tensor& qkv, const Tensor& cu_seqlens, int64_t heads, double scale) {
  const char* op = "varlen_attention";
  const Input<float> rows(op, "qkv", qkv, 2);
  const Input<int32_t> starts(op, "cu_seqlens", cu_seqlens, 1);
  const int64_t size = head_size(op, rows.size(1), heads);
  check_sequences(op, starts, rows.size(0));
  Tensor out = make({rows.size(0), heads * size}, ScalarType::Float);
  Attention call{};
  call.qkv = rows.data(), call.out = data_of<float>(out), call.cu_seqlens = starts.data();
  call.sequences = starts.count() - 1, call.heads = heads, call.size = size, call.scale = static_cast<float>(scale);
  kernels().attention(call, workers());
  return out;
}

Tensor varlen_attention_int8(const Tensor& qkv, const Tensor& cu_seqlens, int64_t heads, double scale,
                             std::vector<Tensor> scales, std::vector<Tensor> zeros, int64_t levels) {
  const char* op = "varlen_attention_int8";
  const Input<uint8_t> rows(op, "qkv", qkv, 2);
  const Input<int32_t> starts(op, "cu_seqlens", cu_seqlens, 1);
  const int64_t size = head_size(op, rows.size(1), heads);
  const int32_t top = levels_of(op, levels);
  check_sequences(op, starts, rows.size(0));
  three(op, scales, zeros, 2);
  Tensor out = make({rows.size(0), heads * size}, ScalarType::Byte);
  Attention call{};
  call.qkv8 = rows.data(), call.out8 = data_of<uint8_t>(out), call.cu_seqlens = starts.data();
  call.in_as = quantized_as(op, "qkv", scales[0], zeros[0], top);
  call.out_as = quantized_as(op, "the output", scales[1], zeros[1], top);
  call.sequences = starts.count() - 1, call.heads = heads, call.size = size, call.scale = static_cast<float>(scale);
  kernels().attention(call, workers());
  return out;
}

Tensor pack_weight(const Tensor& weight) {
  const char* op = "pack_weight";
  const Input<float> rows(op, "weight", weight, 2);
  const int64_t out = rows.size(0), in = at_least_one(op, "the number of in features", rows.size(1));
  Tensor packed = make({round_up(out, kFloatPanel) * in}, ScalarType::Float);
  pack_panels(rows.data(), out, in, data_of<float>(packed));
  return packed;
}

Tensor linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, int64_t out_features,
              std::string activation) {
  const char* op = "linear";
  const Input<float> rows(op, "x", x, 2), packed(op, "weight", weight, 1);
  const MaybeInput<float> shift(op, "bias", bias, 1);
  const Activation after = activation_of(op, activation);
  const int64_t in = at_least_one(op, "the number of in features", rows.size(1));
  at_least_one(op, "out_features", out_features);
  agree(op, "the packed weight has numbers:", packed.count(), "these features need", round_up(out_features, kFloatPanel) * in);
  if (shift) agree(op, "bias has numbers:", shift.count(), "out_features is", out_features);
  Tensor y = make({rows.size(0), out_features}, ScalarType::Float);
  kernels().linear({rows.data(), packed.data(), shift.data(), data_of<float>(y), rows.size(0), in, out_features, after},
                   workers());
  return y;
}

// What keeps the int16 sums of linear_int8 from saturating; -128 would break the widest by itself.
void check_weights(const char* op, const Input<int8_t>& rows, const std::string& bits, Bits kind) {
  const int limit = kind == Bits::kW7A7 ? 63 : 127;
  for (int64_t at = 0; at < rows.count(); ++at) {
    const int value = rows.data()[at];
    if (value < -limit || value > limit) refuse(op, "a weight is ", value, "; ", bits, " takes -", limit, " to ", limit);
  }
  const int together = added_in_int16(kind);
  if (together == 0) return;
  const int64_t in = rows.size(1);
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

void aligned(const char* op, const Input<int8_t>& packed) {
  if (reinterpret_cast<uintptr_t>(packed.data()) % 32 != 0) refuse(op, "the packed weight does not begin at 32 bytes; pack it anew");
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
  aligned(op, packed);
  if (input_scale.has_value() != input_zero.has_value() || (bytes && !input_scale)) {
    refuse(op, "input_scale and input_zero go together, and a uint8 x needs both");
  }
  if (output_scale.has_value() != output_zero.has_value()) refuse(op, "output_scale and output_zero go together");
  const int32_t levels = call.bits == Bits::kW8A8 ? 255 : 127;
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

// The inputs of one linear of a layer, checked as the linears' own ops do, and held.
struct HeldLinear {
  HeldLinear(const char* op, const std::string& bits, const Tensor& packed, const Tensor* scale, const Tensor* sum,
             const Tensor& shift, int64_t in, int64_t out)
      : bias(op, "one of biases", shift, 1) {
    agree(op, "one of biases has numbers:", bias.count(), "the layer needs", out);
    int64_t needed = round_up(out, kFloatPanel) * in;
    if (!scale) {
      weight.emplace(op, "one of packed", packed, 1);
    } else {
      weight8.emplace(op, "one of packed", packed, 1);
      scales.emplace(op, "a scale in scales", *scale, 1);
      sums.emplace(op, "one of sums", *sum, 1);
      agree(op, "a scale in scales has numbers:", scales->count(), "the layer needs", out);
      agree(op, "one of sums has numbers:", sums->count(), "the layer needs", out);
      needed = round_up(out, kInt8Panel) * round_up(in, int8_depth(bits_of(op, bits)));
      aligned(op, *weight8);
    }
    agree(op, "one of packed has numbers:", packed.numel(), "the layer needs", needed);
  }

  LayerLinear pointers() const {
    if (weight) return {weight->data(), nullptr, nullptr, nullptr, bias.data()};
    return {nullptr, weight8->data(), scales->data(), sums->data(), bias.data()};
  }

  Input<float> bias;
  std::optional<Input<float>> weight, scales;
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
  const bool int8 = bits != "fp32";
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
  kernels().layer(call, workers());
  return y;
}

Tensor quantize(const Tensor& x, const Tensor& scale, const Tensor& zero, int64_t levels) {
  const char* op = "quantize";
  const Input<float> rows(op, "x", x, 2);
  Tensor q = make({rows.size(0), rows.size(1)}, ScalarType::Byte);
  Rows call{};
  call.x = rows.data(), call.q = data_of<uint8_t>(q), call.count = rows.count();
  call.as = quantized_as(op, "x", scale, zero, levels_of(op, levels));
  kernels().quantize(call, workers());
  return q;
}

Tensor dequantize(const Tensor& x, const Tensor& scale, const Tensor& zero) {
  const char* op = "dequantize";
  const Input<uint8_t> rows(op, "x", x, 2);
  Tensor y = make({rows.size(0), rows.size(1)}, ScalarType::Float);
  Rows call{};
  call.q_in = rows.data(), call.y = data_of<float>(y), call.count = rows.count();
  call.as = quantized_as(op, "x", scale, zero, 255);
  kernels().dequantize(call, workers());
  return y;
}

}  // namespace
}  // namespace perfq

STABLE_TORCH_LIBRARY_IMPL(perfq, CPU, m) {
  m.impl("pack_tokens", TORCH_BOX(&perfq::pack_tokens));
  m.impl("restore_padding", TORCH_BOX(&perfq::restore_padding));
  m.impl("pool", TORCH_BOX(&perfq::pool));
  m.impl("embed_layernorm", TORCH_BOX(&perfq::embed_layernorm));
  m.impl("add_layernorm", TORCH_BOX(&perfq::add_layernorm));
  m.impl("add_layernorm_int8", TORCH_BOX(&perfq::add_layernorm_int8));
  m.impl("varlen_attention", TORCH_BOX(&perfq::varlen_attention));
  m.impl("varlen_attention_int8", TORCH_BOX(&perfq::varlen_attention_int8));
  m.impl("pack_weight", TORCH_BOX(&perfq::pack_weight));
  m.impl("linear", TORCH_BOX(&perfq::linear));
  m.impl("pack_weight_int8", TORCH_BOX(&perfq::pack_weight_int8));
  m.impl("linear_int8", TORCH_BOX(&perfq::linear_int8));
  m.impl("layer", TORCH_BOX(&perfq::layer));
  m.impl("quantize", TORCH_BOX(&perfq::quantize));
  m.impl("dequantize", TORCH_BOX(&perfq::dequantize));
}

STABLE_TORCH_LIBRARY_IMPL(perfq, CompositeExplicitAutograd, m) { m.impl("select_isa", TORCH_BOX(&perfq::select_isa)); }
