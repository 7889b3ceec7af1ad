// What attention's kernels share: which queries a block answers for, and the kernels of the types. Each keeps to one head and
// one tile of queries, walks their sequence's keys in chunks, and remembers the largest score so far and the sum of the weights
// beside the weighted sum of values (Milakov and Gimelshein, "Online normalizer calculation for softmax"): scores never are in
// memory.
//
// How the work is shared out: nobody on the host knows a length. A grid of (tiles of the longest, heads, sequences) would be
// mostly blocks without a row in a ragged batch, and a queue needs a counter that somebody resets. Here sequence s has the
// slots from cu_seqlens[s] / QUERIES + s on, up to those of s + 1: enough for all its tiles, at most one too many, so a grid of
// tokens / QUERIES + sequences + 1 slots a head serves any batch, and a slot finds its sequence by a search that one warp does
// in one step for up to 32 sequences. The tail behind the last token has slots as one more sequence has, and gets zeros. Heads
// of a slot follow one another: blocks that run together read the same rows of qkv.
#pragma once

#include "device.cuh"

namespace perfq::cuda {

struct Work {
  int first;    // token of the sequence
  int keys;     // the length of the sequence
  int query;    // first of this tile, within the sequence
  int queries;  // below 1 there is nothing to do
  int head;
  bool tail;  // rows of no sequence
};

inline unsigned attention_blocks(int64_t tokens, int64_t sequences, int64_t heads, int queries) {
  return static_cast<unsigned>((tokens / queries + sequences + 1) * heads);
}

// The last sequence whose first slot is not behind `slot`: at each step a warp tries 32 places between low and high.
template <int QUERIES>
__device__ __forceinline__ int sequence_of(int slot, const int32_t* cu_seqlens, int sequences) {
  int low = 0, high = sequences + 1;
  while (high - low > 1) {
    const int step = (high - low + kWarp) / (kWarp + 1), at = low + (lane() + 1) * step;
    const bool before = at < high && cu_seqlens[at] / QUERIES + at <= slot;
    low += __popc(__ballot_sync(kAllLanes, before)) * step;
    high = min(high, low + step);
  }
  return low;
}

template <int QUERIES>
__device__ __forceinline__ Work find_work(const int32_t* cu_seqlens, int64_t sequences, int64_t tokens, int64_t heads) {
  const int slot = static_cast<int>(blockIdx.x / static_cast<unsigned>(heads));
  const int last = static_cast<int>(sequences), at = sequence_of<QUERIES>(slot, cu_seqlens, last);
  const int first = cu_seqlens[at], end = at < last ? cu_seqlens[at + 1] : static_cast<int>(tokens);
  const int query = (slot - first / QUERIES - at) * QUERIES;
  const int head = static_cast<int>(blockIdx.x % static_cast<unsigned>(heads));
  return {first, end - first, query, min(QUERIES, end - first - query), head, at == last};
}

// `count` rows of `size` values, `stride` apart, become `value`.
template <class T>
__device__ __forceinline__ void fill_rows(T* rows, int64_t stride, int count, int size, T value) {
  constexpr int kAtOnce = sizeof(T) == 4 ? 4 : 8;  // sizes are multiples of 8
  Vector<T, kAtOnce> values;
#pragma unroll
  for (int one = 0; one < kAtOnce; ++one) values.at[one] = value;
  const int units = size / kAtOnce;
  for (int unit = static_cast<int>(threadIdx.x); unit < count * units; unit += static_cast<int>(blockDim.x)) {
    store(rows + unit / units * stride + unit % units * kAtOnce, values);
  }
}

// The kernels by type; attention.cu has the others.
int attention_float(const Attention& a, void* stream);

}  // namespace perfq::cuda
