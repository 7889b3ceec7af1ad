// pool on a GPU: checks shapes and types, makes the output, queues the kernel. Reads no value.

#include "../csrc/names.h"
#include "places.h"

namespace perfq::cuda {
namespace {

Pooling pooling_of(const char* op, const std::string& name) {
  const char* known[] = {"cls", "mean", "max"};  // in the order of Pooling
  for (int32_t one = 0; one < 3; ++one) {
    if (name == known[one]) return static_cast<Pooling>(one);
  }
  refuse(op, "unknown pooling '", name, "'; known: cls, mean, max");
}

Tensor pool(const Tensor& x, const Tensor& cu_seqlens, std::string how, bool normalize) {
  const char* op = "pool";
  const Type type = float_type(op, "x", x);
  const Operand rows(op, "x", x, 2, x.scalar_type()), starts(op, "cu_seqlens", cu_seqlens, 1, ScalarType::Int);
  const Pooling pooling = pooling_of(op, how);
  const int64_t sequences = starts.count() - 1;
  if (sequences < 0) refuse(op, "cu_seqlens is empty; it holds one number more than there are sequences");
  if (sequences > kMostSequences) {
    refuse(op, "there are ", sequences, " sequences; at most ", kMostSequences, " are run at once");
  }
  check_features(op, "x", rows.size(1));
  Tensor y = make_beside(x, {sequences, rows.size(1)}, x.scalar_type());
  void* to = y.mutable_data_ptr();
  const Pool arguments{rows.data(), starts.as<int32_t>(), to, sequences, rows.size(1), pooling, normalize, type};
  queue(op, x, perfq_cuda_pool, arguments);
  return y;
}

}  // namespace

PERFQ_LIBRARY_IMPL(PERFQ_OPS, PERFQ_CUDA, m) { m.impl("pool", TORCH_BOX(&pool)); }

}  // namespace perfq::cuda
