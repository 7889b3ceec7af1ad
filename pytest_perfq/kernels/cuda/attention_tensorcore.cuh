// One tile of queries against the keys of its sequence, on tensor cores: what f16, bf16 and levels have in common. A Source
// brings queries, keys and values as T; a Sink takes the rows.
//
// Four warps of 16 queries each: a short sequence fills the four tensor cores of one multiprocessor, and to split its one or
// two chunks of keys among more warps would gain little for a merge through shared memory. Keys and values come in chunks, two
// of them in shared memory: while one is multiplied the next one is on its way, with one barrier a chunk. 16 bytes of a row are
// a unit, and units are swizzled so that the same one of eight rows lies in eight different banks, where ldmatrix reads it.
//
// The weights of a chunk leave the first product as the registers in which the second one wants them (FlashAttention-2). Their
// sum is one more column of values, which are ones: it is the sum of the weights as they were rounded, so equal values come out
// exactly, and an error is one of the values' distances from their mean.
//
// Time, by the data sheets: 4 length^2 size operations a head on tensor cores, and length^2 powers of two, 16 a clock and
// multiprocessor; at size 64 these take half as long as those on sm_80, and as long on sm_90. Memory: 4 tokens size values a
// head once; keys and values again for each further tile, from L2.
#pragma once

#include "attention.cuh"
#include "packed.cuh"

namespace perfq::cuda {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kFewerBlocks = 1;  // copies go through registers, and T4's shared memory has room for two
#else
constexpr int kFewerBlocks = 0;
#endif

template <int SIZE_>
struct HeadShape {
  static constexpr int kSize = SIZE_;  // of a head, padded with zeros
  static constexpr int kWarps = 4, kThreads = kWarps * kWarp, kQueries = 16 * kWarps;
  static constexpr int kKeys = kSize > 64 ? 32 : 64;  // of a chunk; two are 32 KiB at most, and a T4 has room for two blocks
  static constexpr int kUnits = kSize / 8;            // of a row
  static constexpr int kStage = 2 * kKeys * kSize;    // values of a chunk: keys, then values
  static constexpr int kSharedBytes = 2 * kStage * 2;
  // At once on a multiprocessor, which bounds the registers.
  static constexpr int kBlocks = kSize > 64 ? 2 : (kSize > 32 ? 3 : 4) - kFewerBlocks;
  // One thread brings the same unit of each kApart-th row, which its swizzle does not tell apart.
  static constexpr int kApart = kThreads / kUnits, kShare = kKeys / kApart;
  static_assert(kThreads % kUnits == 0 && kKeys % kApart == 0 && kApart % 8 == 0);
};

// Where a unit of a row lies, in units: 2, 4, 8 or 16 a row.
template <int UNITS>
__device__ __forceinline__ int swizzled(int row, int unit) {
  return row * UNITS + (unit ^ (UNITS == 2 ? row >> 2 & 1 : UNITS == 4 ? row >> 1 & 3 : row & 7));
}

// Per query: rows `group` and `group + 8` of the warp's 16.
template <int SIZE>
struct Sums {
  float out[SIZE / 8][4] = {};
  float weights[4] = {};  // [0] and [2]
  float top[2] = {Max::kNeutral, Max::kNeutral};
};

// scores [16, KEYS] of a chunk; groups of 16 keys behind `count` are left out.
template <class T, class S, bool WHOLE>
__device__ __forceinline__ void score(float (&scores)[S::kKeys / 8][4], const uint32_t (&queries)[S::kSize / 16][4],
                                      const T* keys, int count) {
  const int row = lane() / 16 * 8 + lane() % 8, second = lane() / 8 % 2;
#pragma unroll
  for (int group = 0; group < S::kKeys / 16; ++group) {
    if (!WHOLE && 16 * group >= count) continue;
#pragma unroll
    for (int k = 0; k < S::kSize / 16; ++k) {
      uint32_t found[4];
      load_matrices(found, keys + 8 * swizzled<S::kUnits>(16 * group + row, 2 * k + second));
      const uint32_t left[2] = {found[0], found[1]}, right[2] = {found[2], found[3]};
      multiply<T>(scores[2 * group], queries[k], left);
      multiply<T>(scores[2 * group + 1], queries[k], right);
    }
  }
}

// Scores become weights 2^(factor (score - top)), and what was summed before is scaled to the new top. factor is not negative.
// A score that is NaN is no maximum, and its weight is NaN.
template <class S, bool WHOLE>
__device__ __forceinline__ void soften(float (&scores)[S::kKeys / 8][4], Sums<S::kSize>& sums, int count, float factor) {
  const auto here = [&](int tile, int one) { return WHOLE || 8 * tile + lane() % 4 * 2 + one % 2 < count; };
  float top[2] = {sums.top[0], sums.top[1]};
#pragma unroll
  for (int tile = 0; tile < S::kKeys / 8; ++tile) {
#pragma unroll
    for (int one = 0; one < 4; ++one) {
      if (here(tile, one)) top[one / 2] = fmaxf(top[one / 2], scores[tile][one]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    top[half] = fmaxf(top[half], __shfl_xor_sync(kAllLanes, top[half], 1));
    top[half] = fmaxf(top[half], __shfl_xor_sync(kAllLanes, top[half], 2));
    const float keep = fast_exp2((sums.top[half] - top[half]) * factor), shift = top[half] * factor;
    sums.top[half] = top[half];
    sums.weights[2 * half] *= keep;
#pragma unroll
    for (int tile = 0; tile < S::kSize / 8; ++tile) {
      sums.out[tile][2 * half] *= keep;
      sums.out[tile][2 * half + 1] *= keep;
    }
#pragma unroll
    for (int tile = 0; tile < S::kKeys / 8; ++tile) {
#pragma unroll
      for (int one = 2 * half; one < 2 * half + 2; ++one) {
        scores[tile][one] = here(tile, one) ? fast_exp2(scores[tile][one] * factor - shift) : 0.0f;
      }
    }
  }
}

template <class T, class S, bool WHOLE>
__device__ __forceinline__ void add_values(Sums<S::kSize>& sums, const float (&weights)[S::kKeys / 8][4], const T* values,
                                           int count) {
  const int row = lane() % 16, second = lane() / 16;
  const uint32_t one = pack_floats<T>(1.0f, 1.0f), ones[2] = {one, one};
#pragma unroll
  for (int group = 0; group < S::kKeys / 16; ++group) {
    if (!WHOLE && 16 * group >= count) continue;
    const float(&low)[4] = weights[2 * group];
    const float(&high)[4] = weights[2 * group + 1];
    const uint32_t rounded[4] = {pack_floats<T>(low[0], low[1]), pack_floats<T>(low[2], low[3]),
                                 pack_floats<T>(high[0], high[1]), pack_floats<T>(high[2], high[3])};
    multiply<T>(sums.weights, rounded, ones);
#pragma unroll
    for (int tile = 0; tile < S::kSize / 16; ++tile) {
      uint32_t found[4];
      load_matrices_transposed(found, values + 8 * swizzled<S::kUnits>(16 * group + row, 2 * tile + second));
      const uint32_t left[2] = {found[0], found[1]}, right[2] = {found[2], found[3]};
      multiply<T>(sums.out[2 * tile], rounded, left);
      multiply<T>(sums.out[2 * tile + 1], rounded, right);
    }
  }
}

template <class T, class S, bool WHOLE>
__device__ __forceinline__ void add_chunk(Sums<S::kSize>& sums, const uint32_t (&queries)[S::kSize / 16][4], const T* stage,
                                          int count, float factor) {
  float scores[S::kKeys / 8][4] = {};
  score<T, S, WHOLE>(scores, queries, stage, count);
  soften<S, WHOLE>(scores, sums, count, factor);
  add_values<T, S, WHOLE>(sums, scores, stage + S::kKeys * S::kSize, count);
}

// A fragment of the queries: pairs of values from their rows, zeros behind the last row and the last value.
template <class S, class Source>
__device__ __forceinline__ void load_queries(uint32_t (&queries)[S::kSize / 16][4], const Source& source, const Work& work,
                                             bool flip) {
#pragma unroll
  for (int k = 0; k < S::kSize / 16; ++k) {
#pragma unroll
    for (int one = 0; one < 4; ++one) {
      const int row = 16 * warp() + lane() / 4 + one % 2 * 8, column = 16 * k + one / 2 * 8 + lane() % 4 * 2;
      const bool there = row < work.queries && column < source.size;
      queries[k][one] = there ? source.query(work.query + row, column) ^ (flip ? 0x80008000u : 0u) : 0;
    }
  }
}

// The warp's 16 rows, gathered in shared memory so that they leave 8 values at a time.
template <class S, class Sink>
__device__ __forceinline__ void write(const Sums<S::kSize>& sums, const Sink& sink, const Work& work, unsigned char* shared,
                                      int size) {
  using Out = typename Sink::Out;
  Out* rows = reinterpret_cast<Out*>(shared) + warp() * 16 * S::kSize;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float share = 1.0f / sums.weights[2 * half];
#pragma unroll
    for (int tile = 0; tile < S::kUnits; ++tile) {
      const int column = 8 * tile + lane() % 4 * 2;
      if (column >= size) continue;
      Vector<Out, 2> pair;
#pragma unroll
      for (int one = 0; one < 2; ++one) pair.at[one] = sink.value(sums.out[tile][2 * half + one] * share, column + one);
      store(rows + 8 * swizzled<S::kUnits>(lane() / 4 + 8 * half, tile) + lane() % 4 * 2, pair);
    }
  }
  __syncwarp();
  const int units = size / 8, count = min(16, work.queries - 16 * warp());
  for (int unit = lane(); unit < count * units; unit += kWarp) {
    const int row = unit / units, at = unit % units;
    store(sink.row(work.query + 16 * warp() + row) + 8 * at, load<8>(rows + 8 * swizzled<S::kUnits>(row, at)));
  }
}

// scale: what a product of query and key is multiplied by to be a score.
template <class T, class S, class Source, class Sink>
__device__ __forceinline__ void attend(const Work& work, Source& source, const Sink& sink, float scale, unsigned char* shared) {
  if (work.queries <= 0) return;
  if (work.tail) return fill_rows(sink.row(work.query), source.part, work.queries, source.size, sink.nothing());
  T* const stages = reinterpret_cast<T*>(shared);
  source.begin(stages, 0, work.keys);
  uint32_t queries[S::kSize / 16][4];
  load_queries<S>(queries, source, work, scale < 0.0f);  // so that the largest product is the largest score
  const float factor = fabsf(scale) * kLog2E;
  const bool busy = 16 * warp() < work.queries;
  Sums<S::kSize> sums;
  int stage = 0;
  for (int key = 0; key < work.keys; key += S::kKeys, stage ^= S::kStage) {
    source.finish(stages + stage);
    __syncthreads();  // all of this chunk is here, and nobody reads the other stage any more
    const int left = work.keys - key;
    if (left > S::kKeys) source.begin(stages + (stage ^ S::kStage), key + S::kKeys, work.keys);
    if (busy && left >= S::kKeys) add_chunk<T, S, true>(sums, queries, stages + stage, left, factor);
    if (busy && left < S::kKeys) add_chunk<T, S, false>(sums, queries, stages + stage, left, factor);
  }
  // This stage's chunk was the one before the last: nobody reads it any more.
  if (busy) write<S>(sums, sink, work, reinterpret_cast<unsigned char*>(stages + stage), source.size);
}

}  // namespace perfq::cuda
