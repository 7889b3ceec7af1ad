// varlen_attention and varlen_attention_int8 on a GPU: checks shapes and types, makes the output, queues the kernel. Reads no
// value: what cu_seqlens and the zeros hold is believed.

#include "../csrc/names.h"
#include "levels.h"
#include "tensors.h"

namespace perfq::cuda {
namespace {

constexpr int64_t kMostHeadSize = 128;
constexpr int32_t kBF16Capability = 80;

// The shapes of both attentions, checked.
struct Call {
  Operand qkv, cu_seqlens;
  int64_t tokens, sequences, heads, size;

  Call(const char* op, const Tensor& qkv_, const Tensor& cu_seqlens_, int64_t heads_, ScalarType type)
      : qkv(op, "qkv", qkv_, 2, type), cu_seqlens(op, "cu_seqlens", cu_seqlens_, 1, ScalarType::Int) {
    const int64_t features = qkv.size(1);
    heads = heads_, tokens = qkv.size(0), sequences = cu_seqlens.count() - 1;
    if (heads < 1) refuse(op, "heads is ", heads, "; at least one is needed");
    if (features % (3 * heads) != 0) {
      const char* unit = heads == 1 ? " head" : " heads";
      refuse(op, "qkv has ", features, " features, which queries, keys and values of ", heads, unit, " cannot share");
    }
    size = features / (3 * heads);
    if (size % 8 != 0 || size < 8 || size > kMostHeadSize) {
      refuse(op, "the head size is ", size, "; it must be a multiple of 8 from 8 to ", kMostHeadSize);
    }
    if (sequences < 0) refuse(op, "cu_seqlens is empty; it holds one number more than there are sequences");
    if (sequences > kMostSequences) {
      refuse(op, "there are ", sequences, " sequences; at most ", kMostSequences, " are run at once");
    }
  }

  // The arguments, with what both launchers are told of the shapes.
  template <class Arguments>
  Arguments shaped(Arguments arguments) const {
    arguments.cu_seqlens = cu_seqlens.as<int32_t>();
    arguments.tokens = tokens;
    arguments.sequences = sequences;
    arguments.heads = heads;
    arguments.size = size;
    return arguments;
  }
};

void check_has_products(const char* op, const Tensor& qkv) {
  if (qkv.scalar_type() != ScalarType::BFloat16) return;
#ifndef PERFQ_EMULATED
  const torch::stable::accelerator::DeviceGuard guard(qkv.get_device_index());
#endif
  Processor on;
  if (const int code = perfq_cuda_processor(&on)) refuse(op, "the GPU cannot be asked: ", perfq_cuda_error(code));
  if (on.capability >= kBF16Capability) return;
  refuse(op, "qkv is bfloat16, which is multiplied from compute capability 8.0 on, and this GPU has ", on.capability / 10, ".",
         on.capability % 10, "; take float16");
}

// may_round is a CPU's: products here are in the type of qkv.
Tensor varlen_attention(const Tensor& qkv, const Tensor& cu_seqlens, int64_t heads, double scale, bool /*may_round*/) {
  const char* op = "varlen_attention";
  const Type type = float_type(op, "qkv", qkv);
  const Call call(op, qkv, cu_seqlens, heads, qkv.scalar_type());
  check_has_products(op, qkv);
  Tensor out = make_beside(qkv, {call.tokens, heads * call.size}, qkv.scalar_type());
  Attention arguments{};
  arguments.qkv = call.qkv.data();
  arguments.out = out.mutable_data_ptr();
  arguments.scale = static_cast<float>(scale);
  arguments.type = type;
  queue(op, qkv, perfq_cuda_attention, call.shaped(arguments));
  return out;
}

Tensor varlen_attention_int8(const Tensor& qkv, const Tensor& cu_seqlens, int64_t heads, double scale,
                             std::vector<Tensor> scales, std::vector<Tensor> zeros, int64_t levels) {
  const char* op = "varlen_attention_int8";
  const Call call(op, qkv, cu_seqlens, heads, ScalarType::Byte);
  const int32_t most = levels_of(op, levels);
  agree(op, "scales holds", static_cast<int64_t>(scales.size()), "it takes", 2);
  agree(op, "zeros holds", static_cast<int64_t>(zeros.size()), "it takes", 2);
  const HeldLevels in_as(op, "qkv", scales[0], zeros[0]), out_as(op, "the output", scales[1], zeros[1]);
  Tensor out = make_beside(qkv, {call.tokens, heads * call.size}, ScalarType::Byte);
  AttentionInt8 arguments{};
  arguments.qkv = call.qkv.as<uint8_t>();
  arguments.out = data_of<uint8_t>(out);
  arguments.in_as = in_as.pointers();
  arguments.out_as = out_as.pointers();
  arguments.levels = most;
  arguments.scale = static_cast<float>(scale);
  queue(op, qkv, perfq_cuda_attention_int8, call.shaped(arguments));
  return out;
}

}  // namespace

PERFQ_LIBRARY_IMPL(PERFQ_OPS, PERFQ_CUDA, m) {
  m.impl("varlen_attention", TORCH_BOX(&varlen_attention));
  m.impl("varlen_attention_int8", TORCH_BOX(&varlen_attention_int8));
}

}  // namespace perfq::cuda
