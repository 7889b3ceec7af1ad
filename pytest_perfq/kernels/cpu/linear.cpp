// y = activation(x W' + b) in float: blocks of x packed into L2, strips of W (a panel or two) streamed past them, tiles of 6 x 16
// or 12 x 32 in registers.

#include "activation.h"
#include "launchers.h"
#include "parallel.h"
#include "tile.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

// Rows of x packed at a time.
constexpr int64_t kBlockRows = 192;
#ifdef PERFQ_WIDE
// Of packed x, where an L2 has 1 MiB or more: 192 x 1024 floats.
constexpr int64_t kBlockBytes = 768 << 10;
// Depth of a strip: 192 x 32 floats are 24 KiB, half of an L1 of 48 KiB.
constexpr int64_t kBlockDepth = 192;
#else
// Half of an L2 of 512 KiB: 192 x 256 floats with their padding to 8.
constexpr int64_t kBlockBytes = 256 << 10;
// 256 x 16 floats are 16 KiB, half of an L1 of 32 KiB.
constexpr int64_t kBlockDepth = 256;
#endif

// Nearly equal blocks of at most kBlockDepth.
int64_t depth_step(int64_t depth) {
  const int64_t blocks = (depth + kBlockDepth - 1) / kBlockDepth;
  return blocks == 0 ? 1 : round_up((depth + blocks - 1) / blocks, kLanes);
}

struct Block {  // rows [row, row + rows) of x and strips [first, last) of W
  int64_t row, rows, first, last;
};

void pack_rows(const Linear& call, const Block& block, int64_t k, int64_t depth, float* packed) {
  const Tiles tiles(block.rows, kTileRows);
  for (int64_t t = 0; t < tiles.count; ++t, packed += depth * kPackedStep) {
    const float* from = call.x + (block.row + tiles.begin(t)) * call.in + k;
    pack_tile(from, call.in, tiles.size(t), depth, packed);
  }
}

template <Activation kActivation, int R, int kAcross>
void activate_rows(float* c, int64_t stride) {
  Wide x[R * kAcross];
  PERFQ_UNROLL
  for (int i = 0; i < R * kAcross; ++i) x[i] = load_wide(c + i / kAcross * stride + i % kAcross * kWideLanes);
  activate<kActivation, false>(x);
  PERFQ_UNROLL
  for (int i = 0; i < R * kAcross; ++i) store_wide(c + i / kAcross * stride + i % kAcross * kWideLanes, x[i]);
}

// The rows of a tile, four vectors at a time.
template <int kPanels>
void finish(Activation activation, int rows, float* c, int64_t stride) {
  constexpr int kAcross = kPanels * kColumns, kAtOnce = 4 / kAcross;
  for_activation(activation, [&]<Activation kActivation>() {
    int r = 0;
    for (; r + kAtOnce <= rows; r += kAtOnce) activate_rows<kActivation, kAtOnce, kAcross>(c + r * stride, stride);
    for (; r < rows; ++r) activate_rows<kActivation, 1, kAcross>(c + r * stride, stride);
  });
}

// The weights that come next, `depth` of a panel or of two that are `panel` floats apart: each tile asks for its share of them. Null
// asks for none.
#ifdef PERFQ_WIDE
// A line of each panel in kBesideStep of the depth, or two where there are few tiles to ask for all. A core with AVX512 is done with
// a strip before half of the next one has come, if that is asked for tile by tile: it waits for 16 lines at a time.
template <int kPanels>
class Next {
 public:
  struct Beside {
    void ask() {
      __builtin_prefetch(at, 0, 2);
      if (kPanels > 1) __builtin_prefetch(at + panel, 0, 2);
      at += Ahead::kLine;
    }
    void operator()() {
      ask();
      if (twice) ask();
    }

    const char* at;
    int64_t panel;  // bytes from one to the other
    bool twice;
    int64_t until;
  };

  Next(const float* from, int64_t panel, int64_t depth, int64_t tiles)
      : from_(reinterpret_cast<const char*>(from)),
        panel_(panel * static_cast<int64_t>(sizeof(float))),
        depth_(depth),
        lines_(from ? depth : 0),
        share_((lines_ + tiles - 1) / tiles) {}

  Beside beside(int64_t tile) const {
    const int64_t first = smaller(lines_, tile * share_), steps = (smaller(lines_, first + share_) - first) * kBesideStep;
    const bool twice = steps > depth_;
    const int64_t until = round_up(twice ? steps / 2 : steps, kBesideStep);
    return {from_ + first * Ahead::kLine, panel_, twice, smaller(until, depth_ / kBesideStep * kBesideStep)};
  }

 private:
  const char* from_;
  int64_t panel_, depth_, lines_, share_;
};
#else
// All of a share before its tile.
template <int kPanels>
class Next {
 public:
  Next(const float* from, int64_t, int64_t depth, int64_t tiles)
      : ahead_(from, from ? depth * kFloatPanel * static_cast<int64_t>(sizeof(float)) : 0, tiles) {}

  Nothing beside(int64_t) {
    ahead_.fetch();
    return {};
  }

 private:
  static_assert(kPanels == 1);
  Ahead ahead_;
};
#endif

// One strip against the packed rows. The last panel of an N that is no multiple of 16 goes by way of `edge` [rows][columns].
// after: the weights that come next, of which as many are fetched; null where nobody knows.
template <int kPanels>
void strip(const Linear& call, const Block& block, int64_t number, const float* packed, int64_t k, int64_t depth,
           const float* after, float* edge) {
  constexpr int64_t kWidth = kPanels * kFloatPanel;
  const int64_t column = number * kTilePanels * kFloatPanel, panel = kFloatPanel * call.in;
  const bool whole = column + kWidth <= call.out;
  const bool first = k == 0, last = k + depth == call.in;
  float* c = whole ? call.y + block.row * call.out + column : edge;
  const int64_t stride = whole ? call.out : kWidth;
  const float* weight = call.weight + number * kTilePanels * panel + k * kFloatPanel;
  float bias[kWidth] = {};
  if (call.bias) memcpy(bias, call.bias + column, sizeof(float) * smaller(kWidth, call.out - column));
  const Tiles tiles(block.rows, kTileRows);
  Next<kPanels> next(after, panel, depth, tiles.count);
  for (int64_t t = 0; t < tiles.count; ++t, packed += depth * kPackedStep) {
    const int rows = tiles.size(t);
    float* to = c + tiles.begin(t) * stride;
    const auto beside = next.beside(t);
    if (first) {
      tile_rows<kPanels, true, false>(rows, packed, 0, weight, panel, depth, bias, to, stride, beside);
    } else {
      tile_rows<kPanels, true, true>(rows, packed, 0, weight, panel, depth, nullptr, to, stride, beside);
    }
    if (last && call.activation != Activation::kNone) finish<kPanels>(call.activation, rows, to, stride);
  }
  if (last && !whole) {
    for (int64_t r = 0; r < block.rows; ++r) {
      memcpy(call.y + (block.row + r) * call.out + column, edge + r * kWidth, sizeof(float) * (call.out - column));
    }
  }
}

void run_strip(const Linear& call, const Block& block, int64_t number, const float* packed, int64_t k, int64_t depth,
               const float* after, float* edge) {
  const bool alone = kTilePanels > 1 && (number + 1) * kTilePanels * kFloatPanel - kFloatPanel >= call.out;
  if (alone) {
    strip<1>(call, block, number, packed, k, depth, after, edge);
  } else {
    strip<kTilePanels>(call, block, number, packed, k, depth, after, edge);
  }
}

// As much of the depth as fits is packed at a time, the whole of it for a few rows, and each strip goes down it: W is read as it
// lies, and the sums stay in L1 meanwhile.
void run_block(const Linear& call, const Block& block) {
  const int64_t across = kTilePanels * kFloatPanel, tiles = Tiles(block.rows, kTileRows).count, floats = tiles * kPackedStep;
  const int64_t step = depth_step(call.in), steps = (call.in + step - 1) / step;
  const int64_t fit = larger(int64_t{1}, kBlockBytes / (static_cast<int64_t>(sizeof(float)) * floats * step));
  const int64_t parts = larger(int64_t{1}, (steps + fit - 1) / fit), part = larger(int64_t{1}, (steps + parts - 1) / parts) * step;
  float* packed = static_cast<float*>(scratch(kInputs, sizeof(float) * floats * part));
  float* edge = static_cast<float*>(scratch(kPanel, sizeof(float) * tiles * kTileRows * across));
  for (int64_t begin = 0; begin < call.in; begin += part) {
    const int64_t end = smaller(call.in, begin + part);
    for (int64_t k = begin; k < end; k += step) pack_rows(call, block, k, smaller(step, end - k), packed + floats * (k - begin));
    for (int64_t number = block.first; number < block.last; ++number) {
      const float* weight = call.weight + number * across * call.in;
      for (int64_t k = begin; k < end; k += step) {
        const int64_t depth = smaller(step, end - k);
        const bool ends = k + depth == end;
        const float* after = weight + (ends ? across * call.in + begin * kFloatPanel : (k + depth) * kFloatPanel);
        const bool more = !ends || number + 1 < block.last;
        run_strip(call, block, number, packed + floats * (k - begin), k, depth, more ? after : nullptr, edge);
      }
    }
  }
}

}  // namespace

void linear(const Linear& call, const Workers& workers) {
  if (call.rows == 0 || call.out == 0) return;
  const int64_t strips = (call.out + kTilePanels * kFloatPanel - 1) / (kTilePanels * kFloatPanel);
  const int64_t blocks = (call.rows + kBlockRows - 1) / kBlockRows;
  const int64_t block_rows = round_up((call.rows + blocks - 1) / blocks, kTileRows);
  // A unit is one strip of one block of rows; a thread's units lie side by side, so it packs each of its blocks once.
  parallel(workers, blocks * strips, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end;) {
      const int64_t row = unit / strips * block_rows;
      const int64_t first = unit % strips, last = smaller(strips, first + end - unit);
      if (row < call.rows) run_block(call, {row, smaller(block_rows, call.rows - row), first, last});
      unit += last - first;
    }
  });
}

}  // namespace PERFQ_ISA
}  // namespace perfq
