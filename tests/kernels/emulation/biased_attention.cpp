// An op of the tests alone: attention whose launcher adds the bias of the linear before, which no op of the schema asks for
// yet.

#include "../../../pytest_perfq/kernels/csrc/names.h"
#include "../../../pytest_perfq/kernels/cuda/tensors.h"

namespace perfq::cuda {
namespace {

Tensor biased_attention(const Tensor& qkv, const Tensor& bias, const Tensor& cu_seqlens, int64_t heads, double scale) {
  const char* op = "biased_attention";
  const Operand rows(op, "qkv", qkv, 2, qkv.scalar_type()), shift(op, "bias", bias, 1, qkv.scalar_type());
  const Operand starts(op, "cu_seqlens", cu_seqlens, 1, ScalarType::Int);
  Tensor out = make_beside(qkv, {rows.size(0), rows.size(1) / 3}, qkv.scalar_type());
  Attention call{};
  call.qkv = rows.data(), call.bias = shift.data(), call.out = out.mutable_data_ptr(), call.cu_seqlens = starts.as<int32_t>();
  call.tokens = rows.size(0), call.sequences = starts.count() - 1, call.heads = heads;
  call.size = rows.size(1) / 3 / heads, call.scale = static_cast<float>(scale), call.type = float_type(op, "qkv", qkv);
  queue(op, qkv, perfq_cuda_attention, call);
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(perfq_emulated, m) {
  m.def("biased_attention(Tensor qkv, Tensor bias, Tensor cu_seqlens, int heads, float scale) -> Tensor");
}
STABLE_TORCH_LIBRARY_IMPL(perfq_emulated, CPU, m) { m.impl("biased_attention", TORCH_BOX(&biased_attention)); }

}  // namespace perfq::cuda
