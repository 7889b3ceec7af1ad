// y = activation(x W' + b) with the numbers of x and W rounded to bfloat16 and their products summed in float, by the tiles of AMX.

#include "amx.h"

#ifdef PERFQ_AMX

#include "attention_tiles.h"
#include "blocks_amx.h"
#include "launchers.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

static_assert(kBlockColumns == kBf16Panel);
constexpr int64_t kStepDepth = kStepBytes / 2;  // numbers of a row that a step takes

struct Bf16 {
  using Sum = float;
  struct Columns {
    void read(const Bf16& kind, int64_t column) {
      const LinearBf16& call = kind.call;
      const int64_t width = call.bias ? smaller(int64_t{kBlockColumns}, call.out - column) : 0;
      for (int64_t j = 0; j < kBlockColumns; ++j) bias[j] = j < width ? call.bias[column + j] : 0.0f;
    }
    float bias[kBlockColumns];
  };

  const uint8_t* packed(int64_t column) const { return reinterpret_cast<const uint8_t*>(call.pairs) + column / kBlockColumns * bytes(); }
  int64_t bytes() const { return (call.in + 1) / 2 * kBlockColumns * static_cast<int64_t>(sizeof(uint32_t)); }
  int64_t copied_bytes() const { return bytes() % kStepPanel == 0 ? 0 : x.steps * kStepPanel; }

  const uint8_t* panel(int64_t column, uint8_t* memory) const {
    const uint8_t* from = packed(column);
    if (copied_bytes() == 0) return from;
    memcpy(memory, from, bytes());
    memset(memory + bytes(), 0, copied_bytes() - bytes());
    return memory;
  }

  template <int kSums, int kX, int kW>
  static void dot() {
    tmm_dot_bf16<kSums, kX, kW>();
  }

  template <int R, Activation kActivation>
  void finish(const float* sums, const Columns& by, int64_t row, int64_t column) const {
    constexpr int kVectors = kBlockColumns / kWideLanes;
    Wide value[R * kVectors];
    PERFQ_UNROLL
    for (int v = 0; v < R * kVectors; ++v) value[v] = load_wide(sums + v * kWideLanes) + load_wide(by.bias + v % kVectors * kWideLanes);
    activate<kActivation, false>(value);
    const int64_t width = call.out - column;
    PERFQ_UNROLL
    for (int r = 0; r < R; ++r) {
      float kept[kBlockColumns];
      float* to = call.y + (row + r) * call.out + column;
      float* place = width >= kBlockColumns ? to : kept;
      PERFQ_UNROLL
      for (int v = 0; v < kVectors; ++v) store_wide(place + v * kWideLanes, value[r * kVectors + v]);
      if (width < kBlockColumns) memcpy(to, kept, sizeof(float) * width);
    }
  }

  void round_rows(int64_t begin, int64_t end) const {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = call.x + row * call.in;
      uint8_t* to = x.of(row);
      int64_t k = 0;
      for (; k + kStepDepth <= call.in; k += kStepDepth, to += kTile) {
        store(to, rounded(load_row(from + k), load_row(from + k + kTmmFloats)));
      }
      if (k == call.in) continue;
      float rest[kStepDepth] = {};  // zero beyond the depth, where the weights are zero: not a number that makes a NaN of it
      memcpy(rest, from + k, sizeof(float) * (call.in - k));
      store(to, rounded(load_row(rest), load_row(rest + kTmmFloats)));
    }
  }

  const LinearBf16& call;
  int64_t rows, out;
  Activation activation;
  TileRows x;
};

}  // namespace

void linear_bf16(const LinearBf16& call, const Workers& workers) {
  if (call.rows == 0 || call.out == 0) return;
  const int64_t steps = (call.in + kStepDepth - 1) / kStepDepth;
  uint8_t* memory = static_cast<uint8_t*>(scratch(kInputs, TileRows::bytes(call.rows, steps)));
  const Bf16 kind{call, call.rows, call.out, call.activation, {memory, steps}};
  parallel(workers, call.rows, kTmmRows, [&](int64_t begin, int64_t end) { kind.round_rows(begin, end); });
  run(kind, workers);
}

}  // namespace PERFQ_ISA
}  // namespace perfq

#endif
