// Kernels with one mistake each, and one without any, for test_emulation.py; and the small formats' conversions.

#include "device.cuh"
#include "tensorcore.cuh"

namespace perfq::cuda {
namespace {

constexpr int kThreads = 64;

__global__ void missing_lane(float* out) {
  if (threadIdx.x != 5) out[threadIdx.x] = __shfl_xor_sync(kAllLanes, 1.0f, 1);
}

__global__ void two_barriers(float* out) {
  if (threadIdx.x < kWarp) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1.0f;
}

__global__ void never_written(float* out) {
  PERFQ_SHARED(shared);
  float* values = reinterpret_cast<float*>(shared);
  if (threadIdx.x != 7) values[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = values[threadIdx.x];
}

// What the thread before this one has: right in forward order without the barrier.
template <bool BARRIER>
__global__ void of_the_one_before(float* out) {
  PERFQ_SHARED(shared);
  float* values = reinterpret_cast<float*>(shared);
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (BARRIER) __syncthreads();
  out[threadIdx.x] = threadIdx.x == 0 ? -1.0f : values[threadIdx.x - 1];
}

// Four floats a thread, of which three and a half are given.
template <bool WAIT>
__global__ void copied(float* out, const float* from) {
  PERFQ_SHARED(shared);
  float* values = reinterpret_cast<float*>(shared) + 4 * threadIdx.x;
  copy_async(values, from, 12);
  close_copies();
  if (WAIT) wait_copies<0>();
  __syncthreads();
  out[threadIdx.x] = values[1] + values[3];
}

__global__ void votes(float* out) {
  out[threadIdx.x] = static_cast<float>(__popc(__ballot_sync(kAllLanes, lane() % 3 == 0)));
}

}  // namespace

#define KERNEL(name, kernel, shared)                                                                       \
  extern "C" __attribute__((visibility("default"))) const char* name(float* out) {                         \
    return PERFQ_LAUNCH((kernel), 2, kThreads, (shared), nullptr, out) ? perfq_cuda_error(1) : ""; \
  }
KERNEL(run_missing_lane, missing_lane, 0)
KERNEL(run_two_barriers, two_barriers, 0)
KERNEL(run_never_written, never_written, kThreads * 4)
KERNEL(run_without_barrier, of_the_one_before<false>, kThreads * 4)
KERNEL(run_with_barrier, of_the_one_before<true>, kThreads * 4)
KERNEL(run_votes, votes, 0)

alignas(16) const float kGiven[4] = {1, 2, 3, 4};
template <bool WAIT>
__global__ void copied_given(float* out) {
  copied<WAIT>(out, kGiven);
}
KERNEL(run_without_wait, copied_given<false>, kThreads * 16)
KERNEL(run_with_wait, copied_given<true>, kThreads * 16)

extern "C" __attribute__((visibility("default"))) const char* run_too_many_threads(float* out) {
  return PERFQ_LAUNCH(votes, 1, 1025, 0, nullptr, out) ? perfq_cuda_error(1) : "";
}

// Codes to floats, and floats to codes.
#define FORMAT(type, code)                                                                                            \
  extern "C" __attribute__((visibility("default"))) void from_##type(const code* codes, float* values, int count) {   \
    for (int one = 0; one < count; ++one) values[one] = to_float(type{codes[one]});                                   \
  }                                                                                                                   \
  extern "C" __attribute__((visibility("default"))) void to_##type(const float* values, code* codes, int count) {     \
    for (int one = 0; one < count; ++one) codes[one] = from_float<type>(values[one]).bits;                            \
  }
FORMAT(f16, uint16_t)
FORMAT(bf16, uint16_t)
FORMAT(f8, uint8_t)

}  // namespace perfq::cuda
