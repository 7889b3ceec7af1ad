// y = activation(x W' + b) with 8 or 7 bit operands and exact int32 sums, by the tiles of AMX.

#include "amx.h"

#ifdef PERFQ_AMX

#include "blocks_amx.h"
#include "launchers.h"
#include "outputs_int8.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

static_assert(kBlockColumns == kInt8Panel);

// Bits only tell how many levels there are: every product is exact and costs the same. Of 128 levels the zero is taken off as they
// are packed, and is in no sum; 256 would not fit a signed byte without theirs.
int32_t levels_of(Bits bits) { return bits == Bits::kW8A8 ? 255 : 127; }
Zero zero_of(Bits bits) { return bits == Bits::kW8A8 ? Zero::kIn : Zero::kOff; }

typedef uint8_t Bytes __attribute__((vector_size(kStepBytes)));
typedef uint8_t BytesAnywhere __attribute__((vector_size(kStepBytes), aligned(1), may_alias));
typedef int16_t Words __attribute__((vector_size(kStepBytes)));
typedef int16_t WordsAnywhere __attribute__((vector_size(kStepBytes), aligned(1), may_alias));

// Below zero it wraps around, to what a signed byte is; so does what lies beyond the depth.
void take_off(int32_t zero, uint8_t* from) {
  *reinterpret_cast<BytesAnywhere*>(from) -= Bytes{} + static_cast<uint8_t>(zero);
}

// 16 columns of a panel in twos become half of one in fours.
void weave(const uint8_t* from, int64_t depth, uint8_t* to) {
  for (int64_t k = 0; k < depth; k += 4, from += kTmmBytes, to += 2 * kTmmBytes) {
    const Words pairs = *reinterpret_cast<const WordsAnywhere*>(from);
    *reinterpret_cast<WordsAnywhere*>(to) =
        __builtin_shufflevector(pairs, pairs, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27,
                                12, 28, 13, 29, 14, 30, 15, 31);
  }
}

template <Zero kZero>
struct Int8 {
  using Sum = int32_t;
  struct Columns : perfq::PERFQ_ISA::Columns<kBlockColumns> {
    void read(const Int8& kind, int64_t column) { perfq::PERFQ_ISA::Columns<kBlockColumns>::read(kind.call, column); }
  };

  const uint8_t* packed(int64_t column) const { return reinterpret_cast<const uint8_t*>(call.weight) + column * depth; }
  int64_t bytes() const { return kBlockColumns * depth; }
  int64_t copied_bytes() const { return in_fours() && depth % kStepBytes == 0 ? 0 : x.steps * kStepPanel; }
  bool in_fours() const { return call.bits != Bits::kW8A8; }

  const uint8_t* panel(int64_t column, uint8_t* memory) const {
    const uint8_t* from = packed(column);
    if (copied_bytes() == 0) return from;
    if (in_fours()) {
      memcpy(memory, from, bytes());
    } else {
      weave(from, depth, memory);
      weave(from + kTmmColumns * depth, depth, memory + kTmmBytes);
    }
    memset(memory + bytes(), 0, copied_bytes() - bytes());
    return memory;
  }

  template <int kSums, int kX, int kW>
  static void dot() {
    if constexpr (kZero == Zero::kOff) {
      tmm_dot_signed_bytes<kSums, kX, kW>();
    } else {
      tmm_dot_bytes<kSums, kX, kW>();
    }
  }

  template <int R, Activation kActivation>
  void finish(const int32_t* sums, const Columns& by, int64_t row, int64_t column) const {
    const int64_t at = row * call.out + column;
    perfq::PERFQ_ISA::finish<kBlockColumns, R, kZero, kActivation>(call, sums, scales + row, by, at, call.out - column, out_as);
  }

  void quantize_rows(int64_t begin, int64_t end) const {
    const int32_t levels = levels_of(call.bits);
    for (int64_t row = begin; row < end; ++row) {
      const RowScale as = call.x8 ? RowScale{*call.input_scale, *call.input_zero} : scale_of(call, call.x + row * call.in, levels);
      uint8_t* to = x.of(row);
      for (int64_t k = 0; k < call.in; k += kStepBytes, to += kTile) {
        const int64_t at = row * call.in + k, count = smaller(kStepBytes, call.in - k);
        if (call.x8) {
          memcpy(to, call.x8 + at, count);
        } else {
          quantize_spread(call.x + at, count, as, levels, to, kLanes);
        }
        if constexpr (kZero == Zero::kOff) take_off(as.zero, to);
      }
      scales[row] = as;
    }
  }

  const LinearInt8& call;
  int64_t rows, out;
  Activation activation;
  TileRows x;
  RowScale* scales;  // how each row was quantized
  int64_t depth;     // of a panel as it was packed
  Quantized out_as;
};

template <Zero kZero>
void run_int8(const LinearInt8& call, const Workers& workers) {
  const int64_t steps = (call.in + kStepBytes - 1) / kStepBytes, bytes = TileRows::bytes(call.rows, steps);
  uint8_t* memory = static_cast<uint8_t*>(scratch(kInputs, bytes + sizeof(RowScale) * call.rows));
  const Int8<kZero> kind{call,
                         call.rows,
                         call.out,
                         call.activation,
                         {memory, steps},
                         reinterpret_cast<RowScale*>(memory + bytes),
                         round_up(call.in, int8_depth(call.bits)),
                         output_as(call, levels_of(call.bits))};
  parallel(workers, call.rows, kTmmRows, [&](int64_t begin, int64_t end) { kind.quantize_rows(begin, end); });
  run(kind, workers);
}

}  // namespace

void linear_int8(const LinearInt8& call, const Workers& workers) {
  if (call.rows == 0 || call.out == 0) return;
  zero_of(call.bits) == Zero::kOff ? run_int8<Zero::kOff>(call, workers) : run_int8<Zero::kIn>(call, workers);
}

}  // namespace PERFQ_ISA
}  // namespace perfq

#endif
