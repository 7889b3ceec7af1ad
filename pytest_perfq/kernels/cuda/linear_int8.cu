// linear_int8 and linear_levels: exact sums of unsigned by signed bytes, which leave by the scales of their row and column, as
// floats or as levels again.
//
// The sum over k of (q - zero) w is that of q w less zero times the weight's sum, so q goes to the tensor cores as it is. Bound
// as in linear.cuh, at twice the operations a second of f16, and half the bytes.

#include "linear.cuh"

namespace perfq::cuda {
namespace {

struct Product {
  using Sum = int32_t;
  static __device__ __forceinline__ void multiply(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_u8s8(d, a, b);
  }
};

__device__ __forceinline__ void store_levels(const LinearInt8& a, int64_t at, const float (&values)[kUnit], int width,
                                             bool aligned) {
  const float inverse = 1.0f / *a.out_as.scale;
  const int32_t zero = *a.out_as.zero;
  uint8_t levels[kUnit];
#pragma unroll
  for (int v = 0; v < kUnit; ++v) levels[v] = to_levels(values[v], inverse, zero, a.levels);
  store_unit(a.q + at, levels, width, aligned);
}

// The bias and what leaves are of a type known only at run time, so that there is one kernel a tile and not four.
__device__ __forceinline__ void finish(const LinearInt8& a, int64_t row, int64_t column, int width,
                                       const int32_t (&sums)[kUnit]) {
  const float scale = a.input_scale[a.per_row ? row : 0];
  const int32_t zero = a.input_zero[a.per_row ? row : 0];
  int32_t weight_sums[kUnit];
  float values[kUnit];
  load_unit(weight_sums, a.weight_sum + column, width, [](int32_t one) { return one; });
  load_unit(values, a.weight_scale + column, width, [](float one) { return one; });
#pragma unroll
  for (int v = 0; v < kUnit; ++v) values[v] = static_cast<float>(sums[v] - zero * weight_sums[v]) * (values[v] * scale);
  switch (a.type) {
    case Type::kF32: add_unit<float>(values, a.bias, column, width); break;
    case Type::kF16: add_unit<f16>(values, a.bias, column, width); break;
    default: add_unit<bf16>(values, a.bias, column, width);
  }
  activate_unit(values, a.how);
  const bool aligned = a.out % kUnit == 0;
  const int64_t at = row * a.out + column;
  if (a.q) return store_levels(a, at, values, width, aligned);
  switch (a.type) {
    case Type::kF32: round_and_store(static_cast<float*>(a.y) + at, values, width, aligned); break;
    case Type::kF16: round_and_store(static_cast<f16*>(a.y) + at, values, width, aligned); break;
    default: round_and_store(static_cast<bf16*>(a.y) + at, values, width, aligned);
  }
}

template <class S>
__global__ void __launch_bounds__(S::kThreads) linear_int8(LinearInt8 a) {
  PERFQ_SHARED(shared);
  const Corner at = corner_of_block<S>(a.rows, a.out);
  const Sides sides = {a.x, reinterpret_cast<const unsigned char*>(a.weight), a.in, a.in_padded, a.rows, a.out,
                       static_cast<int>(a.in)};
  Sums<S, int32_t> sums = {};
  multiply_all<S, Product>(sums, sides, at, shared);
  const auto leave = [&](int64_t row, int64_t column, int width, const int32_t (&unit)[kUnit]) {
    finish(a, row, column, width, unit);
  };
  finish_all<int32_t, S>(sums, a.rows, a.out, at, shared, leave);
}

template <class S>
int launch(const LinearInt8& a, const Processor& on, void* stream) {
  const size_t shared = shared_bytes<S>(on);
  if (const int error = PERFQ_ALLOW_SHARED((linear_int8<S>), shared)) return error;
  return PERFQ_LAUNCH((linear_int8<S>), static_cast<unsigned>(blocks_of<S>(a.rows, a.out)), S::kThreads, shared, stream, a);
}

}  // namespace

extern "C" int perfq_cuda_linear_int8(const LinearInt8* a, void* stream) {
  if (a->rows == 0 || a->out == 0) return 0;
  Processor on;
  if (const int error = perfq_cuda_processor(&on)) return error;
  return with_shape(a->tile, a->rows, a->out, on, [&](auto shape) { return launch<decltype(shape)>(*a, on, stream); });
}

}  // namespace perfq::cuda
