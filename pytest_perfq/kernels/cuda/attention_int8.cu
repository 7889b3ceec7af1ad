// Padding-free attention between levels. Bytes become f16 on their way to shared memory, less their zero, which is exact;
// products of queries and keys are integers below 2^24, exact in float. So only the weights are rounded, to f16, as in the
// float kernels: that moves a sum by up to 2^-11 of the values' mean distance from it, under an eighth of a level of qkv where
// they lie as far apart as they can.

#include "attention_tensorcore.cuh"

namespace perfq::cuda {
namespace {

using Eight = Vector<uint32_t, 2>;  // levels of a unit

// A chunk is fetched into registers while the one before is multiplied, and put down, widened, when its turn comes.
template <class S>
struct Widened {
  const uint8_t* rows;
  int stride, part;
  int size;
  uint32_t offset;           // 1024 and the zero as f16, twice
  Eight held[2][S::kShare];  // keys, values

  __device__ __forceinline__ uint32_t query(int row, int column) const {
    return widen(*reinterpret_cast<const uint16_t*>(rows + int64_t{row} * stride + column), false, offset);
  }

  // Places behind the last key and the last value hold any number: their weights, and the queries there, are zero.
  __device__ __forceinline__ void begin(f16*, int key, int keys) {
    const int row = static_cast<int>(threadIdx.x) / S::kUnits, unit = static_cast<int>(threadIdx.x) % S::kUnits;
    const uint8_t* from = rows + int64_t{key + row} * stride + part + 8 * unit;
#pragma unroll
    for (int one = 0; one < S::kShare; ++one) {
      const bool there = key + row + one * S::kApart < keys && 8 * unit < size;
      held[0][one] = held[1][one] = {};
      if (there) {
        held[0][one] = *reinterpret_cast<const Eight*>(from);
        held[1][one] = *reinterpret_cast<const Eight*>(from + part);
      }
      from += S::kApart * stride;
    }
  }

  __device__ __forceinline__ void finish(f16* stage) const {
    const int row = static_cast<int>(threadIdx.x) / S::kUnits, unit = static_cast<int>(threadIdx.x) % S::kUnits;
    f16* const to = stage + 8 * swizzled<S::kUnits>(row, unit);
#pragma unroll
    for (int one = 0; one < 2 * S::kShare; ++one) {
      const Eight& eight = held[one / S::kShare][one % S::kShare];
      const Vector<uint32_t, 4> wide = {widen(eight.at[0], false, offset), widen(eight.at[0], true, offset),
                                        widen(eight.at[1], false, offset), widen(eight.at[1], true, offset)};
      store(reinterpret_cast<uint32_t*>(to + one * S::kApart * S::kSize), wide);  // keys, then values
    }
  }
};

struct ToLevels {
  using Out = uint8_t;
  const AttentionInt8& a;
  const Work& work;
  float factor;  // levels of the output that a level of qkv is
  __device__ __forceinline__ uint8_t* row(int query) const {
    return a.out + (int64_t{work.first + query} * a.heads + work.head) * a.size;
  }
  __device__ __forceinline__ uint8_t value(float x, int) const { return to_levels(x, factor, *a.out_as.zero, a.levels); }
  __device__ __forceinline__ uint8_t nothing() const { return to_levels(0.0f, 1.0f, *a.out_as.zero, a.levels); }
};

template <class S>  // a block less at once than of floats: registers hold the next chunk, too
__global__ void __launch_bounds__(S::kThreads, S::kBlocks - 1) attention_int8(AttentionInt8 a) {
  PERFQ_SHARED(shared);
  const Work work = find_work<S::kQueries>(a.cu_seqlens, a.sequences, a.tokens, a.heads);
  const int size = static_cast<int>(a.size), part = static_cast<int>(a.heads) * size;
  const uint32_t zero = static_cast<uint32_t>(*a.in_as.zero);  // 0..255
  const uint32_t offset = zero * 0x10001u + kThousands;        // f16 between 1024 and 2048 count by ones
  const float step = *a.in_as.scale;
  const uint8_t* rows = a.qkv + int64_t{work.first} * 3 * part + work.head * size;
  Widened<S> source{rows, 3 * part, part, size, offset, {}};
  attend<f16, S>(work, source, ToLevels{a, work, step / *a.out_as.scale}, a.scale * step * step, shared);
}

template <int SIZE>
int launch(const AttentionInt8& a, void* stream) {
  using S = HeadShape<SIZE>;
  const unsigned blocks = attention_blocks(a.tokens, a.sequences, a.heads, S::kQueries);
  return PERFQ_LAUNCH((attention_int8<S>), blocks, S::kThreads, S::kSharedBytes, stream, a);
}

}  // namespace

extern "C" int perfq_cuda_attention_int8(const AttentionInt8* a, void* stream) {
  if (a->tokens == 0) return 0;
  if (a->size <= 16) return launch<16>(*a, stream);
  if (a->size <= 32) return launch<32>(*a, stream);
  if (a->size <= 64) return launch<64>(*a, stream);
  return launch<128>(*a, stream);
}

}  // namespace perfq::cuda
