// CUDA's execution on one CPU thread, for tests: stands for CUDA's headers in pytest_perfq/kernels/cuda.
//
// Each thread of a block is a fiber that runs until it meets a barrier or a warp-wide operation. Blocks follow one another.
// What a GPU leaves undefined ends the launch with a sentence: a lane that is missing from a warp-wide operation, threads that wait
// at different barriers, a read of shared memory nobody wrote (it holds NaN), a copy that was not waited for (it never
// happens). Threads run first to last, or last to first with PERFQ_EMULATED_ORDER=reverse: what holds in both orders does not lean on one.
#pragma once

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <string>
#include <type_traits>
#include <vector>

using std::max;
using std::min;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

constexpr int kLanes = 32;
constexpr size_t kSlotBytes = 64;

// Runs body for every thread. Returns 0, or 1 with last_error() set.
int launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
const char* last_error();

unsigned char* shared();
// A barrier is known by where it stands in the source: threads that wait at two are not together.
void block_barrier(const std::source_location& at);
// Leaves `bytes` of this lane for the others, and returns the slots of all 32 lanes, kSlotBytes apart, good until the
// second next call.
const unsigned char* meet(const void* given, size_t bytes);
int lane_of_warp();
void copy_later(void* to, const void* from, size_t bytes, size_t given);
void close_group();
void wait_groups(int left);

template <class T>
T from_lane(T value, int source) {
  static_assert(sizeof(T) <= kSlotBytes);
  T found;
  const unsigned char* slots = meet(&value, sizeof value);
  std::memcpy(&found, slots + static_cast<size_t>(source & (kLanes - 1)) * kSlotBytes, sizeof found);
  return found;
}

uint16_t half_bits(float value);
float half_value(uint16_t bits);
uint16_t bfloat_bits(float value);
float bfloat_value(uint16_t bits);
uint8_t f8_bits(float value);
float f8_value(uint8_t bits);

}  // namespace emulation

#define PERFQ_LAUNCH(kernel, grid, block, shared, stream, ...) \
  ((void)(stream), emulation::launch((grid), (block), (shared), [=] { kernel(__VA_ARGS__); }))
#define PERFQ_ALLOW_SHARED(kernel, bytes) ((void)(bytes), 0)
#define PERFQ_SHARED(name) unsigned char* const name = emulation::shared()

inline void __syncthreads(std::source_location at = std::source_location::current()) { emulation::block_barrier(at); }
inline void __syncwarp(unsigned = 0xffffffffu) { emulation::meet(nullptr, 0); }
template <class T> T __shfl_xor_sync(unsigned, T value, int mask) { return emulation::from_lane(value, emulation::lane_of_warp() ^ mask); }
template <class T> T __shfl_sync(unsigned, T value, int source) { return emulation::from_lane(value, source); }
// Below the first lanes there is nobody: they keep their own, as CUDA has it.
template <class T> T __shfl_up_sync(unsigned, T value, int delta) {
  const int at = emulation::lane_of_warp();
  return emulation::from_lane(value, at < delta ? at : at - delta);
}
template <class T> T __shfl_down_sync(unsigned, T value, int delta) {
  const int at = emulation::lane_of_warp();
  return emulation::from_lane(value, at + delta > 31 ? at : at + delta);
}
inline unsigned __ballot_sync(unsigned, int wanted) {
  const unsigned char* slots = emulation::meet(&wanted, sizeof wanted);
  unsigned found = 0;
  for (int lane = 0; lane < emulation::kLanes; ++lane) {
    int one;
    std::memcpy(&one, slots + static_cast<size_t>(lane) * emulation::kSlotBytes, sizeof one);
    found |= one ? 1u << lane : 0u;
  }
  return found;
}
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __float2int_rn(float value) { return static_cast<int>(std::lrintf(value)); }
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float value) { return std::exp(value); }
template <class T> T atomicAdd(T* at, T value) { const T before = *at; *at = before + value; return before; }
template <class T> T atomicMax(T* at, T value) { const T before = *at; *at = max(before, value); return before; }
template <class T> T __ldg(const T* at) { return *at; }
inline float __int_as_float(int bits) { float value; std::memcpy(&value, &bits, 4); return value; }
inline int __float_as_int(float value) { int bits; std::memcpy(&bits, &value, 4); return bits; }

namespace perfq::cuda {

struct f16 { uint16_t bits; };
struct bf16 { uint16_t bits; };
struct f8 { uint8_t bits; };

inline float to_float(float value) { return value; }
inline float to_float(f16 value) { return emulation::half_value(value.bits); }
inline float to_float(bf16 value) { return emulation::bfloat_value(value.bits); }
inline float to_float(f8 value) { return emulation::f8_value(value.bits); }
template <class T> T from_float(float value);
template <> inline float from_float<float>(float value) { return value; }
template <> inline f16 from_float<f16>(float value) { return {emulation::half_bits(value)}; }
template <> inline bf16 from_float<bf16>(float value) { return {emulation::bfloat_bits(value)}; }
template <> inline f8 from_float<f8>(float value) { return {emulation::f8_bits(value)}; }

}  // namespace perfq::cuda
