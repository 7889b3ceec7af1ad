// Padding removed and put back, and pooling: where the tokens of a batch lie.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "bindings.h"

namespace perfq {
namespace {

std::tuple<Tensor, Tensor> pack_tokens(const Tensor& mask, int64_t tokens) {
  const char* op = "pack_tokens";
  const Input<int64_t> given(op, "mask", mask, 2);
  const int64_t batch = given.size(0), seq = given.size(1);
  if (batch > kMostSequences) refuse(op, "the batch has ", batch, " rows; at most ", kMostSequences, " are run at once");
  if (seq > kMostPositions) refuse(op, "the batch is ", seq, " tokens wide; at most ", kMostPositions, " are run");
  if (tokens < 0) refuse(op, "tokens is ", tokens, "; it cannot be negative");
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

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(perfq, CPU, m) {
  m.impl("pack_tokens", TORCH_BOX(&pack_tokens));
  m.impl("restore_padding", TORCH_BOX(&restore_padding));
  m.impl("pool", TORCH_BOX(&pool));
}

}  // namespace perfq
