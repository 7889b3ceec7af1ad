// quantize, dequantize and absmax on a GPU: checks shapes and types, makes the outputs, queues the kernel. Reads no value.

#include "../csrc/names.h"
#include "levels.h"

namespace perfq::cuda {
namespace {

Tensor quantize(const Tensor& x, const Tensor& scale, const Tensor& zero, int64_t levels) {
  const char* op = "quantize";
  const Type type = float_type(op, "x", x);
  const Operand rows(op, "x", x, 2, x.scalar_type());
  const HeldLevels as(op, "x", scale, zero);
  const int32_t top = levels_of(op, levels);
  Tensor q = make_beside(x, {rows.size(0), rows.size(1)}, ScalarType::Byte);
  const Quantize arguments{rows.data(), data_of<uint8_t>(q), as.pointers(), top, rows.count(), type};
  queue(op, x, perfq_cuda_quantize, arguments);
  return q;
}

Tensor dequantize(const Tensor& x, const Tensor& scale, const Tensor& zero) {
  const char* op = "dequantize";
  const Operand rows(op, "x", x, 2, ScalarType::Byte);
  const HeldLevels as(op, "x", scale, zero);
  Tensor y = make_beside(x, {rows.size(0), rows.size(1)}, ScalarType::Float);
  const Dequantize arguments{rows.as<uint8_t>(), data_of<float>(y), as.pointers(), rows.count()};
  queue(op, x, perfq_cuda_dequantize, arguments);
  return y;
}

// most is written where it lies, so it cannot be copied into another layout as what is only read is.
void absmax(Tensor most, const Tensor& x) {
  const char* op = "absmax";
  const Type type = float_type(op, "x", x);
  const Operand rows(op, "x", x, 2, x.scalar_type());
  const Operand found(op, "most", most, 1, ScalarType::Float);
  found.long_as("x has features:", rows.size(1));
  if (!most.is_contiguous()) refuse(op, "most is a view with gaps, and is written in place; pass a contiguous one");
  const AbsMax arguments{rows.data(), data_of<float>(most), rows.size(0), rows.size(1), type};
  queue(op, x, perfq_cuda_absmax, arguments);
}

}  // namespace

PERFQ_LIBRARY_IMPL(PERFQ_OPS, PERFQ_CUDA, m) {
  m.impl("quantize", TORCH_BOX(&quantize));
  m.impl("dequantize", TORCH_BOX(&dequantize));
  m.impl("absmax", TORCH_BOX(&absmax));
}

}  // namespace perfq::cuda
