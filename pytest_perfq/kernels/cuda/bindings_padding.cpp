// pack_tokens and restore_padding on a GPU: checks shapes and types, makes the outputs, queues the kernel. Reads no value.

#include <tuple>

#include "../csrc/names.h"
#include "places.h"

namespace perfq::cuda {
namespace {

std::tuple<Tensor, Tensor> pack_tokens(const Tensor& mask, int64_t tokens) {
  const char* op = "pack_tokens";
  const Operand given(op, "mask", mask, 2, ScalarType::Long);
  check_batch(op, given.size(0), given.size(1));
  if (tokens < 0) refuse(op, "tokens is ", tokens, "; it cannot be negative");
  Tensor cu_seqlens = make_beside(mask, {given.size(0) + 1}, ScalarType::Int);
  Tensor index = make_beside(mask, {tokens}, ScalarType::Int);
  const PackTokens arguments{given.as<int64_t>(), data_of<int32_t>(cu_seqlens), data_of<int32_t>(index),
                             given.size(0),       given.size(1),                tokens};
  queue(op, mask, perfq_cuda_pack_tokens, arguments);
  return {cu_seqlens, index};
}

Tensor restore_padding(const Tensor& x, const Tensor& index, int64_t batch, int64_t seq) {
  const char* op = "restore_padding";
  const Type type = float_type(op, "x", x);
  const Operand rows(op, "x", x, 2, x.scalar_type()), places(op, "index", index, 1, ScalarType::Int);
  places.long_as("x has rows:", rows.size(0));
  check_batch(op, batch, seq);
  Tensor y = make_beside(x, {batch, seq, rows.size(1)}, x.scalar_type());
  void* to = y.mutable_data_ptr();
  const Restore arguments{rows.data(), places.as<int32_t>(), to, rows.size(0), batch * seq, rows.size(1), type};
  queue(op, x, perfq_cuda_restore, arguments);
  return y;
}

}  // namespace

PERFQ_LIBRARY_IMPL(PERFQ_OPS, PERFQ_CUDA, m) {
  m.impl("pack_tokens", TORCH_BOX(&pack_tokens));
  m.impl("restore_padding", TORCH_BOX(&restore_padding));
}

}  // namespace perfq::cuda
