// y = activation(x W' + b) with 8 or 7 bit operands and exact int32 sums.
//
// First every row of x is quantized into tiles of a few rows; then tiles of a few rows by 16 or 32 outputs are summed, a run of
// the depth at a time so that the weights of the run stay in L1 while all rows of a block pass by.

#include "amx.h"

#ifndef PERFQ_AMX  // linear_int8_amx.cpp is for those

#include "launchers.h"
#include "outputs_int8.h"
#include "parallel.h"
#include "tiles.h"
#include "vnni.h"
#ifdef PERFQ_VNNI
#include "tile_vnni.h"
#else
#include "tile_int8.h"
#endif

namespace perfq {
namespace PERFQ_ISA {
namespace {

// Bytes of quantized rows that a panel is held against: they stay in L2 while panels go by.
constexpr int64_t kBlockBytes = 192 * 1024;
// Depth of a run at most: 512 x 32 weights are 16 KiB, half of an L1 of 32 KiB.
constexpr int64_t kRunDepth = 512;

template <class T>
void copy_byte_row(const uint8_t* x, int64_t size, T* to, int64_t step) {
  for (int64_t k = 0; k < size; k += kGathered, to += step) {
    for (int64_t i = 0; i < kGathered; ++i) to[i] = k + i < size ? x[k + i] : T{0};
  }
}

// Asks for the cache lines that a tile will be written to, so that they arrive while it is summed: an output that does
// not fit L2 would else wait at every tile.
inline void expect(const LinearInt8& call, int64_t row, int rows, int64_t column) {
  if (!call.y) return;
  for (int r = 0; r < rows; ++r) {
    const float* to = call.y + (row + r) * call.out + column;
    for (int64_t line = 0; line < kInt8Panel; line += 16) __builtin_prefetch(to + line, 1);
  }
}

// Rows of x as tiles, [tiles][depth / 8][rows][8], and how each was quantized.
template <Bits kBits>
struct Packed {
  using T = typename Shape<kBits>::Element;
  static constexpr int kRows = Shape<kBits>::kRows;

  explicit Packed(const LinearInt8& call)
      : depth(round_up(call.in, int8_depth(kBits))), tiles((call.rows + kRows - 1) / kRows), even(call.rows, kRows) {
    const int64_t bytes = round_up(tiles * kRows * depth * static_cast<int64_t>(sizeof(T)), 64);
    char* memory = static_cast<char*>(scratch(kInputs, bytes + sizeof(RowScale) * tiles * kRows));
    elements = reinterpret_cast<T*>(memory);
    scales = reinterpret_cast<RowScale*>(memory + bytes);
  }

  int64_t begin(int64_t tile) const { return Shape<kBits>::kEven ? even.begin(tile) : tile * kRows; }
  int rows(const LinearInt8& call, int64_t tile) const {
    return Shape<kBits>::kEven ? even.size(tile) : static_cast<int>(smaller(int64_t{kRows}, call.rows - tile * kRows));
  }
  T* at(int64_t tile) const { return elements + begin(tile) * depth; }

  void fill(const LinearInt8& call, int64_t tile) const {
    const int count = rows(call, tile);
    const int64_t step = count * kGathered;
    for (int r = 0; r < count; ++r) {
      const int64_t row = begin(tile) + r;
      T* to = at(tile) + r * kGathered;
      if (call.x8) {
        scales[row] = {*call.input_scale, *call.input_zero};
        copy_byte_row(call.x8 + row * call.in, call.in, to, step);
        continue;
      }
      const float* x = call.x + row * call.in;
      scales[row] = scale_of(call, x, Shape<kBits>::kLevels);
      quantize_spread(x, call.in, scales[row], Shape<kBits>::kLevels, to, step);
    }
  }

  int64_t depth, tiles;
  Tiles even;
  T* elements;
  RowScale* scales;
};

struct Unit {  // a panel of weights and the tiles [first, last) that it is multiplied with
  int64_t panel, first, last, run_depth;
  bool more;  // whether the next panel is the next unit's
};

template <Bits kBits>
void multiply(const LinearInt8& call, const Packed<kBits>& x, const Unit& unit, const Quantized& out_as, int32_t* memory) {
  constexpr int kRows = Shape<kBits>::kRows, kColumns = Shape<kBits>::kColumns, kPanel = Shape<kBits>::kPanel;
  const int64_t column = unit.panel * kColumns, next_panel = kPanel * x.depth;
  const Columns<kColumns> by(call, column);
  const int8_t* w = call.weight + column * x.depth;
  for (int64_t k = 0; k < x.depth; k += unit.run_depth, w += kPanel * unit.run_depth) {
    const int64_t depth = smaller(unit.run_depth, x.depth - k);
    const bool ends = k + depth == x.depth;
    const int8_t* after = w + kPanel * depth + (ends ? (kColumns - kPanel) * x.depth : 0);
    Ahead next(after, ends && !unit.more ? 0 : kColumns * unit.run_depth, unit.last - unit.first);
    for (int64_t t = unit.first; t < unit.last; ++t) {
      const int64_t begin = x.begin(t);
      const int rows = x.rows(call, t);
      // Sums that are not carried over to another run need not be kept.
      int32_t* sums = memory + (unit.run_depth < x.depth ? (t - unit.first) * kRows * kColumns : 0);
      if (ends) expect(call, begin, rows, column);
      tile_rows<kBits>(rows, x.elements + begin * x.depth + k * rows, w, next_panel, depth, k > 0, next, sums);
      if (!ends) continue;
      for_activation(call.activation, [&]<Activation kActivation>() {
        for (int r = 0; r < rows; ++r) {
          const int64_t row = begin + r;
          finish<kColumns, 1, Zero::kIn, kActivation>(call, sums + r * kColumns, x.scales + row, by, row * call.out + column,
                                                      call.out - column, out_as);
        }
      });
    }
  }
}

template <Bits kBits>
void run(const LinearInt8& call, const Workers& workers) {
  constexpr int kRows = Shape<kBits>::kRows, kColumns = Shape<kBits>::kColumns;
  const Packed<kBits> x(call);
  parallel(workers, x.tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) x.fill(call, t);
  });
  const int64_t panels = (call.out + kColumns - 1) / kColumns;
  const int64_t tile_bytes = kRows * x.depth * static_cast<int64_t>(sizeof(*x.elements));
  const int64_t wanted = (x.tiles * tile_bytes + kBlockBytes - 1) / kBlockBytes;
  const int64_t block_tiles = (x.tiles + wanted - 1) / wanted;
  const int64_t blocks = (x.tiles + block_tiles - 1) / block_tiles;  // fewer where rounding would leave some empty
  const Quantized out_as = output_as(call, Shape<kBits>::kLevels);
  const int64_t runs = (x.depth + kRunDepth - 1) / kRunDepth;
  const int64_t run_depth = round_up((x.depth + runs - 1) / runs, int8_depth(kBits));
  parallel(workers, blocks * panels, 1, [&](int64_t begin, int64_t end) {
    int32_t* sums = static_cast<int32_t*>(scratch(kPanel, sizeof(int32_t) * block_tiles * kRows * kColumns));
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t panel = unit % panels, first = unit / panels * block_tiles;
      const bool more = unit + 1 < end && panel + 1 < panels;
      multiply(call, x, {panel, first, smaller(x.tiles, first + block_tiles), run_depth, more}, out_as, sums);
    }
  });
}

}  // namespace

void linear_int8(const LinearInt8& call, const Workers& workers) {
  if (call.rows == 0 || call.out == 0) return;
  switch (call.bits) {
    case Bits::kW8A8: return run<Bits::kW8A8>(call, workers);
    case Bits::kW8A7: return run<Bits::kW8A7>(call, workers);
    case Bits::kW7A7: return run<Bits::kW7A7>(call, workers);
  }
}

}  // namespace PERFQ_ISA
}  // namespace perfq

#endif
