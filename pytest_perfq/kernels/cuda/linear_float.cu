// linear_fused: products of f16 or bf16 with float sums; bias and activation in float before the one rounding.

#include "linear.cuh"

namespace perfq::cuda {
namespace {

template <class T>
struct Product {
  using Sum = float;
  static __device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    cuda::multiply<T>(d, a, b);
  }
};

template <class T, class S>
__global__ void __launch_bounds__(S::kThreads) linear(Linear a) {
  PERFQ_SHARED(shared);
  const Corner at = corner_of_block<S>(a.rows, a.out);
  const int64_t stride = a.in * static_cast<int64_t>(sizeof(T));
  const auto *x = static_cast<const unsigned char*>(a.x), *weight = static_cast<const unsigned char*>(a.weight);
  const Sides sides = {x, weight, stride, stride, a.rows, a.out, static_cast<int>(stride)};
  Sums<S, float> sums = {};
  multiply_all<S, Product<T>>(sums, sides, at, shared);
  finish_all<float, S>(sums, a.rows, a.out, at, shared, [&](int64_t row, int64_t column, int width, float (&values)[kUnit]) {
    add_unit<T>(values, a.bias, column, width);
    activate_unit(values, a.how);
    round_and_store(static_cast<T*>(a.y) + row * a.out + column, values, width, a.out % kUnit == 0);
  });
}

template <class T, class S>
int launch(const Linear& a, const Processor& on, void* stream) {
  const size_t shared = shared_bytes<S>(on);
  if (const int error = PERFQ_ALLOW_SHARED((linear<T, S>), shared)) return error;
  return PERFQ_LAUNCH((linear<T, S>), static_cast<unsigned>(blocks_of<S>(a.rows, a.out)), S::kThreads, shared, stream, a);
}

template <class T>
int choose(const Linear& a, const Processor& on, void* stream) {
  return with_shape(a.tile, a.rows, a.out, on, [&](auto shape) { return launch<T, decltype(shape)>(a, on, stream); });
}

}  // namespace

extern "C" int perfq_cuda_linear(const Linear* a, void* stream) {
  if (a->rows == 0 || a->out == 0) return 0;
  Processor on;
  if (const int error = perfq_cuda_processor(&on)) return error;
  return a->type == Type::kF16 ? choose<f16>(*a, on, stream) : choose<bf16>(*a, on, stream);
}

}  // namespace perfq::cuda
