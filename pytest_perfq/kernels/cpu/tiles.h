// How rows are shared out over tiles.
#pragma once

#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {

// Rows in tiles as even as can be: 32 rows are 6, 6, 5, 5, 5, 5 and not five times 6 and a slow 2, whose few sums would wait
// for each other.
struct Tiles {
  Tiles(int64_t rows, int64_t most) : count((rows + most - 1) / most), rows(rows) {}
  int64_t begin(int64_t tile) const { return tile * (rows / count) + smaller(tile, rows % count); }
  int size(int64_t tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }

  int64_t count, rows;
};

}  // namespace PERFQ_ISA
}  // namespace perfq
