// y = activation(x W' + b) with 8 or 7 bit operands and exact int32 sums, by the tiles of AMX.
//
// First every row of x is quantized, into tiles as they are loaded: side by side in memory, rows of which a load would else meet
// one line each, 2 to 4 times as slow where they come from L2. Then blocks of 32 rows by 32 outputs are summed in four
// tiles, 64 of the depth at a step. A tile leaves by way of memory, and what is done with its sums there takes as long as the next
// block's products: so each step of a block finishes some rows of the block before it.

#include "amx.h"

#ifdef PERFQ_AMX

#include "launchers.h"
#include "outputs_int8.h"
#include "parallel.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

constexpr int kRows = 2 * kTmmRows, kColumns = 2 * kTmmColumns;
static_assert(kColumns == kInt8Panel);
// Bytes of one step of the depth, and of the weights of four of it, a column after the other.
constexpr int64_t kStep = kTmmBytes, kFour = 4 * kColumns;
// Bytes of quantized rows that a panel is held against: a quarter of an L2 of 2 MiB.
constexpr int64_t kBlockBytes = 512 * 1024;

// Bits only tell how many levels there are: every product is exact and costs the same. Of 128 levels the zero is taken off as they
// are packed, and is in no sum; 256 would not fit a signed byte without theirs.
int32_t levels_of(Bits bits) { return bits == Bits::kW8A8 ? 255 : 127; }
Zero zero_of(Bits bits) { return bits == Bits::kW8A8 ? Zero::kIn : Zero::kOff; }

struct Rows {  // [tiles of 16 rows][stride / 64][16][64], and how each row was quantized
  uint8_t* of(int64_t row) const { return elements + row / kTmmRows * kTmmRows * stride + row % kTmmRows * kStep; }

  uint8_t* elements;
  RowScale* scales;
  int64_t stride;  // the depth, rounded up to whole steps
};

Rows rows_of(const LinearInt8& call) {
  Rows x{};
  x.stride = round_up(call.in, kStep);
  const int64_t bytes = round_up(call.rows, kTmmRows) * x.stride;
  char* memory = static_cast<char*>(scratch(kInputs, bytes + sizeof(RowScale) * call.rows));
  x.elements = reinterpret_cast<uint8_t*>(memory);
  x.scales = reinterpret_cast<RowScale*>(memory + bytes);
  return x;
}

typedef int8_t Bytes __attribute__((vector_size(kStep)));
typedef int8_t BytesAnywhere __attribute__((vector_size(kStep), aligned(1), may_alias));

void take_off(int32_t zero, uint8_t* from) {
  *reinterpret_cast<BytesAnywhere*>(from) -= Bytes{} + static_cast<int8_t>(zero);
}

void quantize_rows(const LinearInt8& call, const Rows& x, int64_t begin, int64_t end) {
  const int32_t levels = levels_of(call.bits);
  const bool off = zero_of(call.bits) == Zero::kOff;
  for (int64_t row = begin; row < end; ++row) {
    const RowScale as = call.x8 ? RowScale{*call.input_scale, *call.input_zero} : scale_of(call, call.x + row * call.in, levels);
    uint8_t* to = x.of(row);
    for (int64_t k = 0; k < call.in; k += kStep, to += kTmmRows * kStep) {
      const int64_t at = row * call.in + k, count = smaller(kStep, call.in - k);
      if (call.x8) {
        memcpy(to, call.x8 + at, count);
      } else {
        quantize_spread(call.x + at, count, as, levels, to, kLanes);
      }
      if (off) take_off(as.zero, to);
    }
    x.scales[row] = as;
  }
}

typedef int16_t Pairs __attribute__((vector_size(64)));
typedef int16_t PairsAnywhere __attribute__((vector_size(64), aligned(1), may_alias));

// A panel as tiles read it: 32 columns side by side, four of the depth each, to a depth that is whole steps. Where it was not
// packed so it is copied, zero beyond the depth.
class Panel {
 public:
  Panel(const LinearInt8& call, int8_t* memory) : call_(call), memory_(memory), depth_(round_up(call.in, int8_depth(call.bits))) {}

  static int64_t bytes(const LinearInt8& call) {
    const bool whole = call.bits != Bits::kW8A8 && round_up(call.in, int8_depth(call.bits)) % kStep == 0;
    return whole ? 0 : kColumns * round_up(call.in, kStep);
  }

  const int8_t* of(int64_t column) const {
    const int8_t* from = call_.weight + column * depth_;
    if (bytes(call_) == 0) return from;
    if (call_.bits == Bits::kW8A8) {
      weave(from, memory_);
      weave(from + kTmmColumns * depth_, memory_ + kFour / 2);
    } else {
      memcpy(memory_, from, kColumns * depth_);
    }
    memset(memory_ + kColumns * depth_, 0, bytes(call_) - kColumns * depth_);
    return memory_;
  }

  int64_t packed_bytes() const { return kColumns * depth_; }

 private:
  // 16 columns in twos become fours.
  void weave(const int8_t* from, int8_t* to) const {
    for (int64_t k = 0; k < depth_; k += 4, from += 4 * kTmmColumns, to += kFour) {
      const Pairs pairs = *reinterpret_cast<const PairsAnywhere*>(from);
      *reinterpret_cast<PairsAnywhere*>(to) =
          __builtin_shufflevector(pairs, pairs, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27,
                                  12, 28, 13, 29, 14, 30, 15, 31);
    }
  }

  const LinearInt8& call_;
  int8_t* memory_;
  int64_t depth_;
};

// Sums that lie in memory and are still to leave: rows [row, row + rows) of the columns from `column` on.
struct Block {
  const int32_t* sums;  // [rows][32]
  const Columns<kColumns>* by;
  int64_t row, column;
  int rows, done;
};

// Finishes about 1 / steps of a block, two rows at a time.
template <Zero kZero>
void finish_some(const LinearInt8& call, const Rows& x, const Quantized& out_as, Block& block, int64_t steps) {
  const int share = static_cast<int>(round_up((block.rows + steps - 1) / steps, 2));
  const int stop = static_cast<int>(smaller(int64_t{block.rows}, int64_t{block.done} + share));
  for_activation(call.activation, [&]<Activation kActivation>() {
    const auto finish_rows = [&]<int R>() {
      const int64_t row = block.row + block.done;
      finish<kColumns, R, kZero, kActivation>(call, block.sums + block.done * kColumns, x.scales + row, *block.by,
                                              row * call.out + block.column, call.out - block.column, out_as);
      block.done += R;
    };
    while (block.done + 2 <= stop) finish_rows.template operator()<2>();
    if (block.done < stop) finish_rows.template operator()<1>();
  });
}

template <Zero kZero, int kSums, int kX, int kW>
inline void dot() {
  if constexpr (kZero == Zero::kOff) {
    tmm_dot_signed_bytes<kSums, kX, kW>();
  } else {
    tmm_dot_bytes<kSums, kX, kW>();
  }
}

// sums [kTwo ? 32 : 16][32] = x, one row of tiles or two, times w, one panel of `steps` steps; beside() once a step.
template <Zero kZero, bool kTwo, class Beside>
inline void multiply(const uint8_t* x, const int8_t* w, int64_t steps, int32_t* sums, const Beside& beside) {
  constexpr int64_t kTile = kTmmRows * kTmmBytes;
  tmm_zero<0>();
  tmm_zero<1>();
  if constexpr (kTwo) tmm_zero<2>(), tmm_zero<3>();
  for (int64_t step = 0; step < steps; ++step, x += kTile, w += kStep / 4 * kFour) {
    tmm_load<4>(x, kTmmBytes);
    tmm_load<6>(w, kFour);
    dot<kZero, 0, 4, 6>();
    tmm_load<7>(w + kTmmBytes, kFour);
    dot<kZero, 1, 4, 7>();
    if constexpr (kTwo) {
      tmm_load<5>(x + steps * kTile, kTmmBytes);
      dot<kZero, 2, 5, 6>();
      dot<kZero, 3, 5, 7>();
    }
    beside();
  }
  constexpr int64_t kRow = kColumns * sizeof(int32_t);
  tmm_store<0>(sums, kRow);
  tmm_store<1>(sums + kTmmColumns, kRow);
  if constexpr (kTwo) {
    tmm_store<2>(sums + kTmmRows * kColumns, kRow);
    tmm_store<3>(sums + kTmmRows * kColumns + kTmmColumns, kRow);
  }
}

struct Shares {  // a unit is one panel against one block of rows
  int64_t panels, block_rows;
};

template <Zero kZero>
void run_units(const LinearInt8& call, const Rows& x, const Shares& shares, int64_t begin, int64_t end) {
  const Tmms tmms;
  const int64_t steps = x.stride / kStep, panel_bytes = round_up(Panel::bytes(call), 64);
  int8_t* memory = static_cast<int8_t*>(scratch(kPanel, panel_bytes + 2 * sizeof(int32_t) * kRows * kColumns));
  int32_t* sums[2];
  sums[0] = reinterpret_cast<int32_t*>(memory + panel_bytes), sums[1] = sums[0] + kRows * kColumns;
  const Panel panel(call, memory);
  const Quantized out_as = output_as(call, levels_of(call.bits));
  Columns<kColumns> kept[2];  // of this panel and of the one before
  Block before{};
  int turn = 0;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t column = unit % shares.panels * kColumns, first = unit / shares.panels * shares.block_rows;
    const int64_t last = smaller(call.rows, first + shares.block_rows);
    const int8_t* w = panel.of(column);
    Columns<kColumns>& by = kept[unit & 1];
    by.read(call, column);
    const bool more = unit + 1 < end && column + kColumns < call.out;
    const int64_t blocks = (last - first + kRows - 1) / kRows;
    Ahead next(call.weight + column / kColumns * panel.packed_bytes() + panel.packed_bytes(), more ? panel.packed_bytes() : 0,
               blocks * steps);
    for (int64_t row = first; row < last; row += kRows, turn ^= 1) {
      const int rows = static_cast<int>(smaller(int64_t{kRows}, last - row));
      const auto beside = [&] {
        next.fetch();
        if (before.done < before.rows) finish_some<kZero>(call, x, out_as, before, steps);
      };
      const uint8_t* at = x.of(row);
      if (rows > kTmmRows) {
        multiply<kZero, true>(at, w, steps, sums[turn], beside);
      } else {
        multiply<kZero, false>(at, w, steps, sums[turn], beside);
      }
      before = {sums[turn], &by, row, column, rows, 0};
    }
  }
  finish_some<kZero>(call, x, out_as, before, 1);
}

}  // namespace

void linear_int8(const LinearInt8& call, const Workers& workers) {
  if (call.rows == 0 || call.out == 0) return;
  const Rows x = rows_of(call);
  parallel(workers, call.rows, kTmmRows, [&](int64_t begin, int64_t end) { quantize_rows(call, x, begin, end); });
  Shares shares{};
  shares.panels = (call.out + kColumns - 1) / kColumns;
  const int64_t wanted = (call.rows * x.stride + kBlockBytes - 1) / kBlockBytes;
  shares.block_rows = round_up((call.rows + wanted - 1) / wanted, kRows);
  const int64_t blocks = (call.rows + shares.block_rows - 1) / shares.block_rows;
  parallel(workers, blocks * shares.panels, 1, [&](int64_t begin, int64_t end) {
    if (zero_of(call.bits) == Zero::kOff) {
      run_units<Zero::kOff>(call, x, shares, begin, end);
    } else {
      run_units<Zero::kIn>(call, x, shares, begin, end);
    }
  });
}

}  // namespace PERFQ_ISA
}  // namespace perfq

#endif
