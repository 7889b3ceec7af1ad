// The main loop of every product here: activation(x weight' + bias) for x [rows, depth] and weight [out, depth], of values of
// two bytes or one. It knows bytes only: a tensor core product of either is 32 bytes deep, and ldmatrix takes the fragments of
// both as they lie, since the depth is side by side in x and in weight. What becomes of a sum is the caller's.
//
// What bounds it, expected and not measured: 2 * rows * out * depth operations at the peak of mma.sync, which on sm_90 is 60 to
// 65 % of wgmma's (on sm_75 to sm_89 it is the GPU's), and below that the weight's bytes. H100, f16: 3072 rows of 768 by 3072
// are 14.5 G operations, 24 us at 600 T/s; 32 rows are bound by 4.7 MB of weights, 1.4 us at 3.35 TB/s. So on sm_90 cuBLASLt
// serves many rows, and this one few, where its epilogue saves a launch; elsewhere it is to come near cuBLASLt.
//
// Not here: depth shared out among blocks. 32 rows by 768 outputs are 24 blocks, which draw perhaps a third of the bandwidth;
// four blocks a tile would save about 3 of 4.5 us where the depth is 3072. But sums that do not depend on the order of blocks
// need memory for partial ones and counters that a launch finds at zero, or a second launch, which costs 2 us: worth measuring
// first.
#pragma once

#include "tensorcore.cuh"
#include "units.cuh"

namespace perfq::cuda {

constexpr int kCopied = 16;         // bytes of one copy to shared memory, and of a row of ldmatrix
constexpr int kProductBytes = 32;   // the depth of one tensor core product
constexpr int kProductRows = 16, kProductColumns = 8;
constexpr int kTogether = 8;        // tiles below each other whose blocks follow one another: they share weights in L2
constexpr int kShallowStages = 2;   // where copies do not run beside products (sm_75)

// ROWS x COLUMNS outputs a block of 2 x 2 warps; DEPTH bytes of the depth at a time, in a ring of STAGES.
template <int ROWS, int COLUMNS, int DEPTH, int STAGES>
struct Shape {
  static constexpr int kRows = ROWS, kColumns = COLUMNS, kDepth = DEPTH, kStages = STAGES;
  static constexpr int kWarpsDown = 2, kWarpsAcross = 2, kThreads = kWarpsDown * kWarpsAcross * kWarp;
  static constexpr int kWarpRows = ROWS / kWarpsDown, kWarpColumns = COLUMNS / kWarpsAcross;
  static constexpr int kDown = kWarpRows / kProductRows, kAcross = kWarpColumns / kProductColumns;  // products of a warp
  static constexpr int kStageBytes = (ROWS + COLUMNS) * DEPTH;
  static_assert(kProductColumns == kUnit && kWarpRows % kProductRows == 0 && kAcross % 2 == 0);
  static_assert(DEPTH % kProductBytes == 0 && DEPTH <= 128);
  static_assert(kWarpRows * COLUMNS * 4 <= kShallowStages * kStageBytes, "sums leave through the memory of the stages");
};

// The first: most operations a byte read. The second and third: enough blocks where rows are few; there the ring is deep, since
// what bounds them is how many bytes are on their way. 64, 48 and 64 KiB of shared memory; 32, 32 and 16 KiB on sm_75.
using Wide = Shape<128, 128, 64, 4>;
using Middle = Shape<64, 64, 128, 3>;
using Small = Shape<32, 32, 128, 8>;

template <class S>
using Shallow = Shape<S::kRows, S::kColumns, S::kDepth, kShallowStages>;

// Of one warp: [product down][product across][as fragments lie].
template <class S, class Sum>
using Sums = Sum[S::kDown][S::kAcross][4];

struct Sides {  // strides and depth in bytes, multiples of 16
  const unsigned char *x, *weight;
  int64_t x_stride, weight_stride, rows, out;
  int depth;
};

struct Corner {  // the first output of a block
  int64_t row, column;
};

template <class S>
inline int64_t blocks_of(int64_t rows, int64_t out) {
  return (rows + S::kRows - 1) / S::kRows * ((out + S::kColumns - 1) / S::kColumns);
}

template <class S>
inline size_t shared_bytes(const Processor& on) {
  return static_cast<size_t>(on.capability < 80 ? kShallowStages : S::kStages) * S::kStageBytes;
}

// Calls launch(S{}) for the wanted tile, or the largest that gives every multiprocessor a block; where none does, the smallest.
template <class Launch>
inline int with_shape(Tile wanted, int64_t rows, int64_t out, const Processor& on, Launch launch) {
  if (wanted == Tile::kChosen) {
    wanted = blocks_of<Wide>(rows, out) >= on.multiprocessors     ? Tile::k128x128
             : blocks_of<Middle>(rows, out) >= on.multiprocessors ? Tile::k64x64
                                                                  : Tile::k32x32;
  }
#ifdef PERFQ_EMULATED
  // One binary is all GPUs here: what __CUDA_ARCH__ decides below is decided by the call.
  if (on.capability < 80) {
    if (wanted == Tile::k128x128) return launch(Shallow<Wide>{});
    return wanted == Tile::k64x64 ? launch(Shallow<Middle>{}) : launch(Shallow<Small>{});
  }
#endif
  if (wanted == Tile::k128x128) return launch(Wide{});
  return wanted == Tile::k64x64 ? launch(Middle{}) : launch(Small{});
}

template <class S>
__device__ __forceinline__ Corner corner_of_block(int64_t rows, int64_t out) {
  const int64_t down = (rows + S::kRows - 1) / S::kRows, across = (out + S::kColumns - 1) / S::kColumns;
  const int64_t group = int64_t{blockIdx.x} / (kTogether * across), in_group = int64_t{blockIdx.x} % (kTogether * across);
  const int64_t height = min(int64_t{kTogether}, down - group * kTogether);
  return {(group * kTogether + in_group % height) * S::kRows, in_group / height * S::kColumns};
}

// Where 16 bytes of a tile of DEPTH bytes a row lie: eight rows below each other fall on all banks once.
template <int DEPTH>
__device__ __forceinline__ int place(int row, int chunk) {
  constexpr int kChunks = DEPTH / kCopied, kRowsPerLine = 8 / kChunks;
  return row * DEPTH + (chunk ^ (row / kRowsPerLine % kChunks)) * kCopied;
}

// Queues the copies of ROWS rows of `from` that begin `at` bytes into the depth; zeros stand behind the last row and the depth.
template <class S, int ROWS>
__device__ __forceinline__ void fill(unsigned char* to, const unsigned char* from, int64_t stride, int64_t rows, int at,
                                     int depth) {
  constexpr int kChunks = S::kDepth / kCopied, kStep = S::kThreads / kChunks;
  static_assert(ROWS % kStep == 0);
  const int row = static_cast<int>(threadIdx.x) / kChunks, chunk = static_cast<int>(threadIdx.x) % kChunks;
  const int k = at + chunk * kCopied;
  const unsigned char* source = from + row * stride + k;
#pragma unroll
  for (int r = 0; r < ROWS; r += kStep) {
    const bool inside = row + r < rows && k < depth;
    copy_async(to + place<S::kDepth>(row + r, chunk), inside ? source + r * stride : from, inside ? kCopied : 0);
  }
}

// sums += the stage's products: x's rows, then weight's.
template <class S, class Product>
__device__ __forceinline__ void multiply_stage(Sums<S, typename Product::Sum>& sums, const unsigned char* stage) {
  const unsigned char* weights = stage + S::kRows * S::kDepth;
  const int x_row = warp() / S::kWarpsAcross * S::kWarpRows + lane() % 16;
  const int weight_row = warp() % S::kWarpsAcross * S::kWarpColumns + lane() / 16 * 8 + lane() % 8;
#pragma unroll
  for (int chunk = 0; chunk < S::kDepth / kCopied; chunk += 2) {
    uint32_t b[S::kAcross / 2][4];  // of two products side by side
#pragma unroll
    for (int n = 0; n < S::kAcross / 2; ++n) {
      load_matrices(b[n], weights + place<S::kDepth>(weight_row + 16 * n, chunk + lane() / 8 % 2));
    }
#pragma unroll
    for (int m = 0; m < S::kDown; ++m) {
      uint32_t a[4];
      load_matrices(a, stage + place<S::kDepth>(x_row + kProductRows * m, chunk + lane() / 16));
#pragma unroll
      for (int n = 0; n < S::kAcross; ++n) {
        const uint32_t pair[2] = {b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]};
        Product::multiply(sums[m][n], a, pair);
      }
    }
  }
}

// sums += x weight' of the block whose first output is `at`. On return `shared` is free.
template <class S, class Product>
__device__ __forceinline__ void multiply_all(Sums<S, typename Product::Sum>& sums, const Sides& of, const Corner& at,
                                             unsigned char* shared) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
  constexpr int kStages = kShallowStages;
#else
  constexpr int kStages = S::kStages;
#endif
  const unsigned char *x = of.x + at.row * of.x_stride, *weight = of.weight + at.column * of.weight_stride;
  const int steps = (of.depth + S::kDepth - 1) / S::kDepth;
  const auto fill_stage = [&](int step) {
    if (step < steps) {
      unsigned char* stage = shared + step % kStages * S::kStageBytes;
      const int k = step * S::kDepth;
      fill<S, S::kRows>(stage, x, of.x_stride, of.rows - at.row, k, of.depth);
      fill<S, S::kColumns>(stage + S::kRows * S::kDepth, weight, of.weight_stride, of.out - at.column, k, of.depth);
    }
    close_copies();  // also of nothing: waits count groups
  };
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) fill_stage(step);
  for (int step = 0; step < steps; ++step) {
    wait_copies<kStages - 2>();
    __syncthreads();  // the stage is there for all, and all are done with the one before, which is filled next
    fill_stage(step + kStages - 1);
    multiply_stage<S, Product>(sums, shared + step % kStages * S::kStageBytes);
  }
  __syncthreads();
}

// Hands every eight sums that stand side by side to `finish(row, column, how many of them are outputs, sums)`, so that it
// writes 16 bytes of a row and more: the fragments go through shared memory, one row of warps after the other.
template <class Sum, class S, class Finish>
__device__ __forceinline__ void finish_all(const Sums<S, Sum>& sums, int64_t rows, int64_t out, const Corner& at,
                                           unsigned char* shared, Finish finish) {
  constexpr int kUnits = S::kColumns / kUnit, kMix = (kUnits < 8 ? kUnits : 8) - 1;
  Sum* staged = reinterpret_cast<Sum*>(shared);
  const auto unit_of = [staged](int row, int unit) { return staged + (row * kUnits + (unit ^ (row & kMix))) * kUnit; };
#pragma unroll 1
  for (int down = 0; down < S::kWarpsDown; ++down) {
    if (warp() / S::kWarpsAcross == down) {
#pragma unroll
      for (int m = 0; m < S::kDown; ++m) {
#pragma unroll
        for (int n = 0; n < S::kAcross; ++n) {
          const int row = m * kProductRows + lane() / 4, unit = warp() % S::kWarpsAcross * S::kAcross + n;
          store(unit_of(row, unit) + lane() % 4 * 2, Vector<Sum, 2>{{sums[m][n][0], sums[m][n][1]}});
          store(unit_of(row + 8, unit) + lane() % 4 * 2, Vector<Sum, 2>{{sums[m][n][2], sums[m][n][3]}});
        }
      }
    }
    __syncthreads();
#pragma unroll 1
    for (int one = static_cast<int>(threadIdx.x); one < S::kWarpRows * kUnits; one += S::kThreads) {
      const int64_t row = at.row + down * S::kWarpRows + one / kUnits, column = at.column + one % kUnits * kUnit;
      if (row >= rows || column >= out) continue;
      const Sum* from = unit_of(one / kUnits, one % kUnits);
      const Vector<Sum, 4> low = load<4>(from), high = load<4>(from + 4);
      Sum unit[kUnit];
#pragma unroll
      for (int v = 0; v < 4; ++v) unit[v] = low.at[v], unit[v + 4] = high.at[v];
      finish(row, column, static_cast<int>(min(int64_t{kUnit}, out - column)), unit);
    }
    __syncthreads();
  }
}

}  // namespace perfq::cuda
