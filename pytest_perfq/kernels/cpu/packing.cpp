// Weights in the order the inner loops read them. Done once a model, so written to be read.

#include <cstring>

#include "launch.h"

namespace perfq {

// panel p, depth k, column j: weight[16 p + j][k].
void pack_panels(const float* weight, int64_t out, int64_t in, float* packed) {
  const int64_t panels = round_up(out, kFloatPanel) / kFloatPanel;
  for (int64_t p = 0; p < panels; ++p) {
    for (int64_t k = 0; k < in; ++k) {
      for (int64_t j = 0; j < kFloatPanel; ++j) {
        const int64_t n = p * kFloatPanel + j;
        *packed++ = n < out ? weight[n * in + k] : 0.0f;
      }
    }
  }
}

// panel p, pair k, column j: weight[32 p + j][2 k] in the lower half, [2 k + 1] in the upper one.
void pack_panels_bf16(const uint16_t* weight, int64_t out, int64_t in, uint32_t* packed) {
  const auto at = [=](int64_t n, int64_t k) { return n < out && k < in ? uint32_t{weight[n * in + k]} : 0; };
  for (int64_t n = 0; n < round_up(out, kBf16Panel); n += kBf16Panel) {
    for (int64_t k = 0; k < in; k += 2) {
      for (int64_t j = 0; j < kBf16Panel; ++j) *packed++ = at(n + j, k) | at(n + j, k + 1) << 16;
    }
  }
}

// A panel is 32 columns (w8a7, w7a7) or two halves of 16 (w8a8). It holds, for every 8 of K, two groups of 4 or four of 2,
// and of each group the bytes of its first column, of the next, and so on: what one vpmaddubsw (vpmaddwd after widening)
// multiplies with a broadcast.
void pack_panels_int8(const int8_t* weight, int64_t out, int64_t in, Bits bits, int8_t* packed) {
  const int64_t columns = bits == Bits::kW8A8 ? kInt8Panel / 2 : kInt8Panel;
  const int64_t group = bits == Bits::kW8A8 ? 2 : 4;
  for (int64_t p = 0; p < round_up(out, kInt8Panel) / columns; ++p) {
    for (int64_t k = 0; k < round_up(in, int8_depth(bits)); k += group) {
      for (int64_t j = 0; j < columns; ++j) {
        for (int64_t i = 0; i < group; ++i) {
          const int64_t n = p * columns + j;
          *packed++ = n < out && k + i < in ? weight[n * in + k + i] : int8_t{0};
        }
      }
    }
  }
}

}  // namespace perfq
