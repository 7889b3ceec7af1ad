// Padding-free attention in f16 and bf16, whose keys and values are copied to shared memory as they are.

#include "attention_tensorcore.cuh"

namespace perfq::cuda {
namespace {

template <class T, class S>
struct Copied {
  const T *rows, *bias;  // the first query of the sequence and head; its bias or null
  int stride, part;      // from token to token, and from queries to keys to values
  int size;

  // A bias of the keys adds the same to all scores of a query, which softmax does not see; and the weights of the values sum to
  // one, so theirs is added at the end. What is left is that of the queries, rounded as a linear with an epilogue would.
  __device__ __forceinline__ uint32_t query(int row, int column) const {
    const Vector<T, 2> pair = load<2>(rows + int64_t{row} * stride + column);
    if (!bias) return pack(pair.at[0], pair.at[1]);
    const Vector<T, 2> more = load<2>(bias + column);
    return pack_floats<T>(to_float(pair.at[0]) + to_float(more.at[0]), to_float(pair.at[1]) + to_float(more.at[1]));
  }

  __device__ __forceinline__ void begin(T* stage, int key, int keys) const {
    const int row = static_cast<int>(threadIdx.x) / S::kUnits, unit = static_cast<int>(threadIdx.x) % S::kUnits;
    T* to = stage + 8 * swizzled<S::kUnits>(row, unit);
    const T* from = rows + int64_t{key + row} * stride + part + 8 * unit;
#pragma unroll
    for (int one = 0; one < S::kShare; ++one) {
      const bool there = key + row + one * S::kApart < keys && 8 * unit < size;
      copy_async(to, there ? from : rows, there ? 16 : 0);
      copy_async(to + S::kKeys * S::kSize, there ? from + part : rows, there ? 16 : 0);
      from += S::kApart * stride;
      to += S::kApart * S::kSize;
    }
    close_copies();
  }
  __device__ __forceinline__ void finish(T*) const { wait_copies<0>(); }
};

// Looks up where rows go when they go, so that no register holds it before.
template <class T>
struct Rounded {
  using Out = T;
  const Attention& a;
  const Work& work;
  __device__ __forceinline__ T* row(int query) const {
    return static_cast<T*>(a.out) + (int64_t{work.first + query} * a.heads + work.head) * a.size;
  }
  __device__ __forceinline__ T value(float x, int column) const {
    const T* bias = static_cast<const T*>(a.bias) + (2 * a.heads + work.head) * a.size;
    return from_float<T>(a.bias ? x + to_float(bias[column]) : x);
  }
  __device__ __forceinline__ T nothing() const { return from_float<T>(0.0f); }
};

template <class T, class S>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks) attention(Attention a) {
  PERFQ_SHARED(shared);
  const Work work = find_work<S::kQueries>(a.cu_seqlens, a.sequences, a.tokens, a.heads);
  const int size = static_cast<int>(a.size), part = static_cast<int>(a.heads) * size;
  const T* rows = static_cast<const T*>(a.qkv) + int64_t{work.first} * 3 * part + work.head * size;
  const T* bias = a.bias ? static_cast<const T*>(a.bias) + work.head * size : nullptr;
  Copied<T, S> source{rows, bias, 3 * part, part, size};
  attend<T, S>(work, source, Rounded<T>{a, work}, a.scale, shared);
}

template <class T, int SIZE>
int launch(const Attention& a, void* stream) {
  using S = HeadShape<SIZE>;
  const unsigned blocks = attention_blocks(a.tokens, a.sequences, a.heads, S::kQueries);
  return PERFQ_LAUNCH((attention<T, S>), blocks, S::kThreads, S::kSharedBytes, stream, a);
}

template <class T>
int choose(const Attention& a, void* stream) {
  if (a.size <= 16) return launch<T, 16>(a, stream);
  if (a.size <= 32) return launch<T, 32>(a, stream);
  if (a.size <= 64) return launch<T, 64>(a, stream);
  return launch<T, 128>(a, stream);
}

}  // namespace

extern "C" int perfq_cuda_attention(const Attention* a, void* stream) {
  if (a->tokens == 0) return 0;
  switch (a->type) {
    case Type::kF32: return attention_float(*a, stream);
    case Type::kF16: return choose<f16>(*a, stream);
    default: return choose<bf16>(*a, stream);
  }
}

}  // namespace perfq::cuda
