// Padding-free attention in f32, in exact float: no tensor cores, whose floats are shorter.
//
// A warp has 16 queries, a thread 4 of them times 4 keys, then times a part of the values: 64 multiplications to 8 loads of 16
// bytes, so the multiplications are what takes time (4 length^2 size operations a head). Rows in shared memory are 16 bytes
// longer than they need to be, so that the same place of eight rows lies in eight different banks. There is one chunk of keys
// and one of values: each is on its way while the other one is used.

#include "attention.cuh"
#include "packed.cuh"

namespace perfq::cuda {
namespace {

constexpr int kKeys = 32;         // of a chunk
constexpr int kWeightStep = 40;   // floats between rows of weights: four rows lie in different banks
constexpr int kPerThread = 4;     // queries, and keys

template <int SIZE_>
struct FloatShape {
  static constexpr int kSize = SIZE_;                 // of a head, padded with zeros to a multiple of 32
  static constexpr int kWarps = kSize > 64 ? 2 : 4;  // 64 KiB are what a T4 has
  static constexpr int kThreads = kWarps * kWarp, kQueries = 16 * kWarps;
  static constexpr int kStep = kSize + 4;  // floats between rows
  static constexpr int kBlocks = kSize > 32 ? 2 : 3;  // at once on a multiprocessor, which bounds the registers
  static constexpr int kParts = kSize / 32;  // runs of 4 values of a row that one thread sums
  static constexpr int kFloats = (kQueries + 2 * kKeys) * kStep + kQueries * kWeightStep;
};

struct Given {
  const float *rows, *bias;  // the first query of the sequence and head; its bias or null
  int64_t stride, part;      // from token to token, and from queries to keys to values
  int size;
  float factor;  // of the scores, for powers of two
};

template <class S>
__device__ __forceinline__ void bring(float* to, const Given& given, const float* from, int keys) {
  constexpr int kUnits = S::kSize / 4, kApart = S::kThreads / kUnits;
  const int row = static_cast<int>(threadIdx.x) / kUnits, column = static_cast<int>(threadIdx.x) % kUnits * 4;
  from += row * given.stride + column;
  to += row * S::kStep + column;
#pragma unroll
  for (int one = 0; one < kKeys / kApart; ++one) {
    const bool there = row + one * kApart < keys && column < given.size;
    copy_async(to + one * kApart * S::kStep, there ? from : given.rows, there ? 16 : 0);
    from += kApart * given.stride;
  }
  close_copies();
}

template <class S>
__device__ __forceinline__ void load_queries(float* to, const Given& given, const Work& work) {
  constexpr int kUnits = S::kSize / 4;
  for (int at = static_cast<int>(threadIdx.x); at < S::kQueries * kUnits; at += S::kThreads) {
    const int row = at / kUnits, column = at % kUnits * 4;
    Vector<float, 4> values = {};
    if (row < work.queries && column < given.size) {
      values = load<4>(given.rows + (work.query + row) * given.stride + column);
#pragma unroll
      for (int one = 0; one < 4; ++one) {
        // The biases of keys and values: see attention.cu.
        if (given.bias) values.at[one] += given.bias[column + one];
        values.at[one] *= given.factor;
      }
    }
    store(to + row * S::kStep + column, values);
  }
}

// Of a thread's queries, rows lane / 8 + 4 i of the warp's.
template <class S>
struct Sums {
  float out[kPerThread][S::kParts][4] = {};
  float weights[kPerThread] = {};  // of its own keys
  float top[kPerThread];
};

// Scores of rows `queries` with keys lane % 8 + 8 j.
template <class S>
__device__ __forceinline__ void score(float (&scores)[kPerThread][kPerThread], const float* queries, const float* keys,
                                      int size) {
#pragma unroll 4
  for (int column = 0; column < size; column += 4) {
    Vector<float, 4> q[kPerThread], k[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      q[i] = load<4>(queries + 4 * i * S::kStep + column);
      k[i] = load<4>(keys + 8 * i * S::kStep + column);
    }
#pragma unroll
    for (int one = 0; one < 4; ++one) {
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) scores[i][j] += q[i].at[one] * k[j].at[one];
      }
    }
  }
}

// Scores become weights 2^(score - top), left in `weights` for the other lanes of the row, behind the next barrier.
template <class S>
__device__ __forceinline__ void soften(const float (&scores)[kPerThread][kPerThread], Sums<S>& sums, float* weights,
                                       int count) {
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    float top = sums.top[i];
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      if (lane() % 8 + 8 * j < count) top = fmaxf(top, scores[i][j]);
    }
#pragma unroll
    for (int step = 1; step < 8; step *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, step));
    const float keep = exp2f(sums.top[i] - top);
    sums.top[i] = top;
    sums.weights[i] *= keep;
#pragma unroll
    for (int part = 0; part < S::kParts; ++part) {
#pragma unroll
      for (int one = 0; one < 4; ++one) sums.out[i][part][one] *= keep;
    }
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const float weight = lane() % 8 + 8 * j < count ? exp2f(scores[i][j] - top) : 0.0f;
      sums.weights[i] += weight;
      weights[4 * i * kWeightStep + lane() % 8 + 8 * j] = weight;
    }
  }
}

template <class S>
__device__ __forceinline__ void add_values(Sums<S>& sums, const float* weights, const float* values, int count) {
  for (int key = 0; key < count; key += 4) {  // weights of keys behind the last one are zero, as their values are
    Vector<float, 4> w[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) w[i] = load<4>(weights + 4 * i * kWeightStep + key);
#pragma unroll
    for (int one = 0; one < 4; ++one) {
#pragma unroll
      for (int part = 0; part < S::kParts; ++part) {
        const Vector<float, 4> v = load<4>(values + (key + one) * S::kStep + lane() % 8 * 4 + 32 * part);
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
          for (int at = 0; at < 4; ++at) sums.out[i][part][at] += w[i].at[one] * v.at[at];
        }
      }
    }
  }
}

template <class S>
__device__ __forceinline__ void write(const Sums<S>& sums, const Given& given, const Work& work, float* rows, int64_t stride) {
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    float weights = sums.weights[i];
#pragma unroll
    for (int step = 1; step < 8; step *= 2) weights += __shfl_xor_sync(kAllLanes, weights, step);
    const float share = 1.0f / weights;
    const int row = 16 * warp() + lane() / 8 + 4 * i;
    if (row >= work.queries) continue;
#pragma unroll
    for (int part = 0; part < S::kParts; ++part) {
      const int column = lane() % 8 * 4 + 32 * part;
      if (column >= given.size) continue;
      Vector<float, 4> values;
#pragma unroll
      for (int one = 0; one < 4; ++one) {
        values.at[one] = sums.out[i][part][one] * share;
        if (given.bias) values.at[one] += given.bias[2 * given.part + column + one];
      }
      store(rows + (work.query + row) * stride + column, values);
    }
  }
}

template <class S>
__device__ __forceinline__ void attend(const Given& given, const Work& work, float* out, int64_t out_stride, float* shared) {
  float *const queries = shared, *const keys = queries + S::kQueries * S::kStep, *const values = keys + kKeys * S::kStep;
  float* const weights = values + kKeys * S::kStep;
  const int row = 16 * warp() + lane() / 8;
  const bool busy = 16 * warp() < work.queries;
  bring<S>(keys, given, given.rows + given.part, work.keys);
  load_queries<S>(queries, given, work);
  Sums<S> sums;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) sums.top[i] = Max::kNeutral;
  for (int key = 0; key < work.keys; key += kKeys) {
    const int count = min(kKeys, work.keys - key);
    const float* const chunk = given.rows + given.part + key * given.stride;
    wait_copies<0>();
    __syncthreads();  // the keys are here, and nobody reads the values any more
    bring<S>(values, given, chunk + given.part, count);
    if (busy) {
      float scores[kPerThread][kPerThread] = {};
      score<S>(scores, queries + row * S::kStep, keys + lane() % 8 * S::kStep, given.size);
      soften(scores, sums, weights + row * kWeightStep, count);
    }
    wait_copies<0>();
    __syncthreads();  // the values are here, and nobody reads the keys any more
    if (count < work.keys - key) bring<S>(keys, given, chunk + kKeys * given.stride, work.keys - key - kKeys);
    if (busy) add_values(sums, weights + row * kWeightStep, values, count);
  }
  if (busy) write(sums, given, work, out, out_stride);
}

template <class S>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks) attention(Attention a) {
  PERFQ_SHARED(shared);
  const Work work = find_work<S::kQueries>(a.cu_seqlens, a.sequences, a.tokens, a.heads);
  const int64_t part = a.heads * a.size, column = work.head * a.size;
  const int size = static_cast<int>(a.size);
  float* out = static_cast<float*>(a.out) + work.first * part + column;
  if (work.queries <= 0) return;
  if (work.tail) return fill_rows(out + work.query * part, part, work.queries, size, 0.0f);
  const float* bias = a.bias ? static_cast<const float*>(a.bias) + column : nullptr;
  const float* rows = static_cast<const float*>(a.qkv) + work.first * 3 * part + column;
  attend<S>({rows, bias, 3 * part, part, size, a.scale * kLog2E}, work, out, part, reinterpret_cast<float*>(shared));
}

template <int SIZE>
int launch(const Attention& a, void* stream) {
  using S = FloatShape<SIZE>;
  constexpr size_t kBytes = S::kFloats * sizeof(float);
  if (const int code = PERFQ_ALLOW_SHARED(attention<S>, kBytes)) return code;
  const unsigned blocks = attention_blocks(a.tokens, a.sequences, a.heads, S::kQueries);
  return PERFQ_LAUNCH((attention<S>), blocks, S::kThreads, kBytes, stream, a);
}

}  // namespace

int attention_float(const Attention& a, void* stream) {
  if (a.size <= 32) return launch<32>(a, stream);
  if (a.size <= 64) return launch<64>(a, stream);
  return launch<128>(a, stream);
}

}  // namespace perfq::cuda
