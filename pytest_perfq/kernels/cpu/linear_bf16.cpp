// y = activation(x W' + b) with the numbers of x and W rounded to bfloat16, their products summed in float, and all else as in
// linear.cpp: blocks of x packed into L2, panels of W streamed past them, 8 x 32 tiles in registers.

#include "amx.h"
#include "launchers.h"

#if defined(PERFQ_HAS_BF16) && !defined(PERFQ_AMX)  // linear_bf16_amx.cpp is for that

#include "activation.h"
#include "parallel.h"
#include "tile_bf16.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

static_assert(kPairColumns == kBf16Panel);
// Rows of x packed at a time: 256 x 256 bfloat16 are 128 KiB of L2.
constexpr int64_t kBlockRows = 256;
// Depth of a block: a panel of 256 x 32 bfloat16 is 16 KiB, half of an L1 of 32 KiB.
constexpr int64_t kBlockDepth = 256;
// What rows are packed by; a block ends within a pair nowhere but at the end of the depth.
constexpr int64_t kDepthStep = 2 * kLanes;

// Nearly equal blocks of at most kBlockDepth.
int64_t depth_step(int64_t depth) {
  const int64_t blocks = (depth + kBlockDepth - 1) / kBlockDepth;
  return round_up((depth + blocks - 1) / blocks, kDepthStep);
}

int64_t pairs_of(int64_t depth) { return (depth + 1) / 2; }

struct Block {  // rows [row, row + rows) of x and panels [first, last) of W
  int64_t row, rows, first, last;
};

struct Depth {  // [begin, begin + size) of it
  int64_t begin, size;
};

void pack_rows(const LinearBf16& call, const Block& block, const Depth& depth, uint32_t* packed) {
  const Tiles tiles(block.rows, kPairRows);
  for (int64_t t = 0; t < tiles.count; ++t, packed += pairs_of(depth.size) * kPairRows) {
    const float* from = call.x + (block.row + tiles.begin(t)) * call.in + depth.begin;
    pack_pairs(from, call.in, tiles.size(t), depth.size, packed);
  }
}

void activate_rows(Activation activation, int rows, float* c, int64_t stride) {
  constexpr int kVectors = kPairColumns / kLanes;
  for (int r = 0; r < rows; ++r, c += stride) {
    Vec x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = load(c + v * kLanes);
    activate<false>(activation, x);
    for (int v = 0; v < kVectors; ++v) store(c + v * kLanes, x[v]);
  }
}

// One panel against the packed rows. The last panel of an N that is no multiple of 32 goes by way of `edge` [rows][32].
void panel(const LinearBf16& call, const Block& block, int64_t number, const uint32_t* packed, const Depth& depth, float* edge) {
  const int64_t column = number * kBf16Panel, width = smaller(int64_t{kBf16Panel}, call.out - column);
  const bool whole = width == kBf16Panel;
  const bool first = depth.begin == 0, last = depth.begin + depth.size == call.in;
  float* c = whole ? call.y + block.row * call.out + column : edge;
  const int64_t stride = whole ? call.out : kBf16Panel, pairs = pairs_of(depth.size), panel_pairs = pairs_of(call.in);
  const uint32_t* weight = call.pairs + column * panel_pairs + depth.begin / 2 * kBf16Panel;
  float bias[kBf16Panel] = {};
  if (call.bias) memcpy(bias, call.bias + column, sizeof(float) * width);
  const Tiles tiles(block.rows, kPairRows);
  const int64_t bytes = number + 1 < block.last ? pairs * kBf16Panel * static_cast<int64_t>(sizeof(uint32_t)) : 0;
  Ahead next(weight + kBf16Panel * panel_pairs, bytes, tiles.count);
  for (int64_t t = 0; t < tiles.count; ++t, packed += pairs * kPairRows) {
    const int rows = tiles.size(t);
    float* to = c + tiles.begin(t) * stride;
    next.fetch();
    if (first) {
      tile_pairs_rows<false>(rows, packed, weight, pairs, bias, to, stride);
    } else {
      tile_pairs_rows<true>(rows, packed, weight, pairs, nullptr, to, stride);
    }
    if (last && call.activation != Activation::kNone) activate_rows(call.activation, rows, to, stride);
  }
  if (last && !whole) {
    for (int64_t r = 0; r < block.rows; ++r) {
      memcpy(call.y + (block.row + r) * call.out + column, edge + r * kBf16Panel, sizeof(float) * width);
    }
  }
}

void run_block(const LinearBf16& call, const Block& block) {
  const int64_t step = depth_step(call.in), tiles = Tiles(block.rows, kPairRows).count;
  uint32_t* packed = static_cast<uint32_t*>(scratch(kInputs, sizeof(uint32_t) * tiles * kPairRows * pairs_of(step)));
  float* edge = static_cast<float*>(scratch(kPanel, sizeof(float) * block.rows * kBf16Panel));
  for (int64_t k = 0; k < call.in; k += step) {
    const Depth depth{k, smaller(step, call.in - k)};
    pack_rows(call, block, depth, packed);
    for (int64_t number = block.first; number < block.last; ++number) panel(call, block, number, packed, depth, edge);
  }
}

}  // namespace

void linear_bf16(const LinearBf16& call, const Workers& workers) {
  if (call.rows == 0 || call.out == 0) return;
  const int64_t panels = (call.out + kBf16Panel - 1) / kBf16Panel;
  const int64_t blocks = (call.rows + kBlockRows - 1) / kBlockRows;
  const int64_t block_rows = round_up((call.rows + blocks - 1) / blocks, kPairRows);
  // A unit is one panel of one block of rows; a thread's units lie side by side, so it packs each of its blocks once.
  parallel(workers, blocks * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end;) {
      const int64_t row = unit / panels * block_rows;
      const int64_t first = unit % panels, last = smaller(panels, first + end - unit);
      if (row < call.rows) run_block(call, {row, smaller(block_rows, call.rows - row), first, last});
      unit += last - first;
    }
  });
}

}  // namespace PERFQ_ISA
}  // namespace perfq

#endif
