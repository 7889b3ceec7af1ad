// What a linear by the tiles of AMX is, whatever it multiplies: blocks of 32 rows by 32 outputs in four tiles, 64 bytes of a row at a
// step. A tile leaves by way of memory, and what is done with its sums there takes as long as the next block's products: so each
// step of a block finishes some rows of the block before it.
//
// A Kind says what is multiplied:
//   Sum                          int32_t or float
//   Columns                      what is added and multiplied for the 32 columns of a panel; read(kind, column)
//   rows, out, activation, x     the linear's, and its rows as tiles
//   packed(column)               the panel that begins with this column, as it was packed, in bytes(); what follows is the next
//   copied_bytes()               of memory that panel(column, memory) takes; 0 where a panel is read as it was packed
//   panel(column, memory)        a panel as tiles read it: for each four bytes of a row, 32 columns of four bytes, to whole steps
//   dot<sums, x, w>()            the product of two tiles, added to a third
//   finish<R, activation>(...)   sums [R][32] of rows from `row` on become outputs
#pragma once

#include "activation.h"
#include "amx.h"
#include "parallel.h"

#ifdef PERFQ_AMX
namespace perfq {
namespace PERFQ_ISA {

constexpr int kBlockRows = 2 * kTmmRows, kBlockColumns = 2 * kTmmColumns;
// Bytes of a row and of a panel that a step takes, and of a row of tiles.
constexpr int64_t kStepBytes = kTmmBytes, kStepPanel = kTmmRows * 2 * kTmmBytes, kTile = kTmmRows * kTmmBytes;
// Bytes of rows that a panel is held against: half of an L2 of 2 MiB.
constexpr int64_t kHeldBytes = 1024 * 1024;

// Rows as they are loaded, [tiles of 16 rows][steps][16][64 bytes]: a tile whose rows lie apart meets a line of memory for each, and
// waits.
struct TileRows {
  uint8_t* of(int64_t row) const { return elements + row / kTmmRows * steps * kTile + row % kTmmRows * kStepBytes; }
  static int64_t bytes(int64_t rows, int64_t steps) { return round_up(rows, kTmmRows) * steps * kStepBytes; }

  uint8_t* elements;
  int64_t steps;
};

// Sums that lie in memory and are still to leave: rows [row, row + rows) of the columns from `column` on.
template <class Kind>
struct Block {
  const typename Kind::Sum* sums;  // [rows][32]
  const typename Kind::Columns* by;
  int64_t row, column;
  int rows, done;
};

// Finishes about 1 / steps of a block, two rows at a time.
template <class Kind>
void finish_some(const Kind& kind, Block<Kind>& block, int64_t steps) {
  const int share = static_cast<int>(round_up((block.rows + steps - 1) / steps, 2));
  const int stop = static_cast<int>(smaller(int64_t{block.rows}, int64_t{block.done} + share));
  for_activation(kind.activation, [&]<Activation kActivation>() {
    const auto finish_rows = [&]<int R>() {
      const int64_t row = block.row + block.done;
      kind.template finish<R, kActivation>(block.sums + block.done * kBlockColumns, *block.by, row, block.column);
      block.done += R;
    };
    while (block.done + 2 <= stop) finish_rows.template operator()<2>();
    if (block.done < stop) finish_rows.template operator()<1>();
  });
}

// sums [kTwo ? 32 : 16][32] = x, one row of tiles or two, times w, one panel; beside() once a step.
template <class Kind, bool kTwo, class Beside>
inline void multiply(const uint8_t* x, const uint8_t* w, int64_t steps, typename Kind::Sum* sums, const Beside& beside) {
  constexpr int64_t kColumn = 2 * kTmmBytes;  // from four bytes of a row to the next four, in a panel
  tmm_zero<0>();
  tmm_zero<1>();
  if constexpr (kTwo) tmm_zero<2>(), tmm_zero<3>();
  for (int64_t step = 0; step < steps; ++step, x += kTile, w += kStepPanel) {
    tmm_load<4>(x, kTmmBytes);
    tmm_load<6>(w, kColumn);
    Kind::template dot<0, 4, 6>();
    tmm_load<7>(w + kTmmBytes, kColumn);
    Kind::template dot<1, 4, 7>();
    if constexpr (kTwo) {
      tmm_load<5>(x + steps * kTile, kTmmBytes);
      Kind::template dot<2, 5, 6>();
      Kind::template dot<3, 5, 7>();
    }
    beside();
  }
  constexpr int64_t kRow = kBlockColumns * sizeof(*sums);
  tmm_store<0>(sums, kRow);
  tmm_store<1>(sums + kTmmColumns, kRow);
  if constexpr (kTwo) {
    tmm_store<2>(sums + kTmmRows * kBlockColumns, kRow);
    tmm_store<3>(sums + kTmmRows * kBlockColumns + kTmmColumns, kRow);
  }
}

// Units [begin, end), each one panel against up to `held` rows.
template <class Kind>
void run_units(const Kind& kind, int64_t held, int64_t begin, int64_t end) {
  using Sum = typename Kind::Sum;
  const Tmms tmms;
  const int64_t panels = (kind.out + kBlockColumns - 1) / kBlockColumns, copied = round_up(kind.copied_bytes(), kTmmBytes);
  uint8_t* memory = static_cast<uint8_t*>(scratch(kPanel, copied + 2 * sizeof(Sum) * kBlockRows * kBlockColumns));
  Sum* sums[2];
  sums[0] = reinterpret_cast<Sum*>(memory + copied), sums[1] = sums[0] + kBlockRows * kBlockColumns;
  typename Kind::Columns kept[2];  // of this panel and of the one before
  Block<Kind> before{};
  int turn = 0;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t column = unit % panels * kBlockColumns, first = unit / panels * held, last = smaller(kind.rows, first + held);
    const uint8_t* w = kind.panel(column, memory);
    typename Kind::Columns& by = kept[unit & 1];
    by.read(kind, column);
    const bool more = unit + 1 < end && column + kBlockColumns < kind.out;
    const int64_t blocks = (last - first + kBlockRows - 1) / kBlockRows;
    Ahead next(kind.packed(column) + kind.bytes(), more ? kind.bytes() : 0, blocks * kind.x.steps);
    for (int64_t row = first; row < last; row += kBlockRows, turn ^= 1) {
      const int rows = static_cast<int>(smaller(int64_t{kBlockRows}, last - row));
      const auto beside = [&] {
        next.fetch();
        if (before.done < before.rows) finish_some(kind, before, kind.x.steps);
      };
      if (rows > kTmmRows) {
        multiply<Kind, true>(kind.x.of(row), w, kind.x.steps, sums[turn], beside);
      } else {
        multiply<Kind, false>(kind.x.of(row), w, kind.x.steps, sums[turn], beside);
      }
      before = {sums[turn], &by, row, column, rows, 0};
    }
  }
  finish_some(kind, before, 1);
}

// All of it, its rows being packed.
template <class Kind>
void run(const Kind& kind, const Workers& workers) {
  const int64_t panels = (kind.out + kBlockColumns - 1) / kBlockColumns;
  const int64_t wanted = (TileRows::bytes(kind.rows, kind.x.steps) + kHeldBytes - 1) / kHeldBytes;
  const int64_t held = round_up((kind.rows + wanted - 1) / wanted, kBlockRows);
  const int64_t parts = (kind.rows + held - 1) / held;
  parallel(workers, parts * panels, 1, [&](int64_t begin, int64_t end) { run_units(kind, held, begin, end); });
}

}  // namespace PERFQ_ISA
}  // namespace perfq
#endif
