// How rows are shared out over tiles.
#pragma once

#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {

// Rows in tiles as even as can be: 32 rows are 6, 6, 5, 5, 5, 5 and not five times 6 and a slow 2, whose few sums would wait
// for each other.
struct Tiles {
  Tiles(int64_t rows, int64_t most)
      : count((rows + most - 1) / most), each(count ? rows / count : 0), more(rows - each * count) {}
  int64_t begin(int64_t tile) const { return tile * each + smaller(tile, more); }
  int size(int64_t tile) const { return static_cast<int>(each + (tile < more)); }

  int64_t count, each, more;  // `more` tiles have a row more than the others
};

}  // namespace PERFQ_ISA
}  // namespace perfq
