// y = activation(x W' + b) with 8 or 7 bit operands and exact int32 sums.
//
// First every row of x is quantized into tiles of a few rows; then tiles of 3 x 32 outputs (6 x 16 in w8a8, where widening
// the weights costs a load port and wants more rows to serve) are summed over the whole depth.
// A multiply-add of bytes (vpmaddubsw) adds two products in int16, saturating:
//   w8a8        2 * 255 * 127 = 64770 does not fit 32767, so bytes are widened and vpmaddwd multiplies int16 pairs;
//   w8a7, w7a7  127 times four weights fits where these add up to 258 or less, which packing has made sure of: two
//               vpmaddubsw are added in int16, and one vpmaddwd by ones widens to int32.
// That is 4 and 3 multiplies for 64 products of bytes: the multiplier's limit of this loop.

#include "activation.h"
#include "launchers.h"
#include "parallel.h"
#include "quantizing.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

// Bytes of quantized rows that a panel is held against: they stay in L2 while panels go by.
constexpr int64_t kBlockBytes = 192 * 1024;

template <Bits kBits>
struct Shape {
  using Element = uint8_t;  // of a quantized row
  static constexpr int kRows = 3, kVectors = 4, kColumns = kVectors * kLanes;
  static constexpr int32_t kLevels = 127;
};
template <>
struct Shape<Bits::kW8A8> {
  using Element = int16_t;
  static constexpr int kRows = 6, kVectors = 2, kColumns = kVectors * kLanes;
  static constexpr int32_t kLevels = 255;
};

#ifdef __AVX2__
inline __m256i broadcast4(const void* from) {
  int32_t four;
  memcpy(&four, from, sizeof four);
  return _mm256_set1_epi32(four);
}
inline __m256i bytes32(const int8_t* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); }
inline __m256i widened16(const int8_t* from) {
  return _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
}
// total += a * w in pairs. As one piece of assembly, since GCC would else do all products first and push the sums out of
// the registers: 12 of them, 2 of weights, a broadcast and this temporary are all 16.
inline void add_products(__m256i& total, __m256i a, __m256i w) {
  __m256i products;
  asm("vpmaddwd %[w], %[a], %[p]\n\tvpaddd %[p], %[t], %[t]" : [t] "+x"(total), [p] "=&x"(products) : [a] "x"(a), [w] "x"(w));
}

// sums [R][columns] of x, [depth / 8][R][8] elements, and w, one panel. Not inlined, so that the loop
// stands alone in a profile and its registers do not depend on the caller.
template <int R, Bits kBits>
__attribute__((noinline)) void tile(const typename Shape<kBits>::Element* x, const int8_t* w, int64_t depth, int32_t* sums) {
  constexpr int kVectors = Shape<kBits>::kVectors;
  __m256i total[R][kVectors];
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) total[r][v] = _mm256_setzero_si256();
  }
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t k = 0; k < depth; k += kInt8Depth) {
    if constexpr (kBits == Bits::kW8A8) {
      PERFQ_UNROLL
      for (int pair = 0; pair < 4; ++pair) {
        __m256i wide[kVectors];
        PERFQ_UNROLL
        for (int v = 0; v < kVectors; ++v) wide[v] = widened16(w + pair * 32 + v * 16);
        PERFQ_UNROLL
        for (int r = 0; r < R; ++r) {
          const __m256i a = broadcast4(x + r * kInt8Depth + pair * 2);
          PERFQ_UNROLL
          for (int v = 0; v < kVectors; ++v) add_products(total[r][v], a, wide[v]);
        }
      }
    } else {
      PERFQ_UNROLL
      for (int r = 0; r < R; ++r) {
        const __m256i a = broadcast4(x + r * kInt8Depth), b = broadcast4(x + r * kInt8Depth + 4);
        PERFQ_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          const __m256i first = _mm256_maddubs_epi16(a, bytes32(w + v * 32));
          const __m256i second = _mm256_maddubs_epi16(b, bytes32(w + 128 + v * 32));
          const __m256i both = _mm256_madd_epi16(_mm256_add_epi16(first, second), ones);
          total[r][v] = _mm256_add_epi32(total[r][v], both);
        }
      }
    }
    x += R * kInt8Depth;
    w += Shape<kBits>::kColumns * kInt8Depth;
  }
  PERFQ_UNROLL
  for (int r = 0; r < R; ++r) {
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) store(sums + (r * kVectors + v) * kLanes, (Ints)total[r][v]);
  }
}
#else
template <int R, Bits kBits>
void tile(const typename Shape<kBits>::Element* x, const int8_t* w, int64_t depth, int32_t* sums) {
  constexpr int kColumns = Shape<kBits>::kColumns, kGroup = kBits == Bits::kW8A8 ? 2 : 4;
  memset(sums, 0, sizeof(int32_t) * R * kColumns);
  for (int64_t k = 0; k < depth; k += kInt8Depth) {
    for (int g = 0; g < kInt8Depth; g += kGroup) {
      for (int r = 0; r < R; ++r) {
        for (int n = 0; n < kColumns; ++n) {
          for (int i = 0; i < kGroup; ++i) {
            sums[r * kColumns + n] += int32_t{x[r * kInt8Depth + g + i]} * w[g * kColumns + n * kGroup + i];
          }
        }
      }
    }
    x += R * kInt8Depth;
    w += kColumns * kInt8Depth;
  }
}
#endif

template <Bits kBits>
void tile_rows(int rows, const typename Shape<kBits>::Element* x, const int8_t* w, int64_t depth, int32_t* sums) {
  if constexpr (Shape<kBits>::kRows == 6) {
    if (rows == 6) return tile<6, kBits>(x, w, depth, sums);
    if (rows == 5) return tile<5, kBits>(x, w, depth, sums);
    if (rows == 4) return tile<4, kBits>(x, w, depth, sums);
  }
  if (rows == 3) return tile<3, kBits>(x, w, depth, sums);
  if (rows == 2) return tile<2, kBits>(x, w, depth, sums);
  tile<1, kBits>(x, w, depth, sums);
}

template <class T>
void copy_byte_row(const uint8_t* x, int64_t size, T* to, int64_t step) {
  for (int64_t k = 0; k < size; k += kInt8Depth, to += step) {
    for (int64_t i = 0; i < kInt8Depth; ++i) to[i] = k + i < size ? x[k + i] : T{0};
  }
}

// What is added and multiplied for the columns of a panel; zero beyond the last.
template <int kColumns>
struct Columns {
  float scale[kColumns], bias[kColumns];
  int32_t weight_sum[kColumns];

  Columns(const LinearInt8& call, int64_t first) {
    for (int64_t j = 0; j < kColumns; ++j) {
      const bool real = first + j < call.out;
      scale[j] = real ? call.weight_scale[first + j] : 0.0f;
      bias[j] = real && call.bias ? call.bias[first + j] : 0.0f;
      weight_sum[j] = real ? call.weight_sum[first + j] : 0;
    }
  }
};

// How the sums of a row leave: offset and scale of the row and of each column, activation, float or uint8.
template <int kColumns>
inline void finish(const LinearInt8& call, const int32_t* sums, const RowScale& as, const Columns<kColumns>& by,
                   int64_t at, int64_t width, const Quantized& out_as) {
  constexpr int kVectors = kColumns / kLanes;
  Vec value[kVectors];
  PERFQ_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const Ints exact = load(sums + v * kLanes) - load(by.weight_sum + v * kLanes) * all(as.zero);
    value[v] = floats(exact) * (load(by.scale + v * kLanes) * all(as.scale)) + load(by.bias + v * kLanes);
  }
  if (call.activation != Activation::kNone) activate<true>(call.activation, value);
  if (call.y && width >= kColumns) {
    PERFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) store(call.y + at + v * kLanes, value[v]);
    return;
  }
  float row[kColumns];
  for (int v = 0; v < kVectors; ++v) store(row + v * kLanes, value[v]);
  width = smaller(width, int64_t{kColumns});
  if (call.y) {
    memcpy(call.y + at, row, sizeof(float) * width);
  } else {
    quantize_row(row, width, out_as, call.y8 + at);
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
      : depth(round_up(call.in, kInt8Depth)), tiles((call.rows + kRows - 1) / kRows) {
    const int64_t bytes = round_up(tiles * kRows * depth * static_cast<int64_t>(sizeof(T)), 64);
    char* memory = static_cast<char*>(scratch(kInputs, bytes + sizeof(RowScale) * tiles * kRows));
    elements = reinterpret_cast<T*>(memory);
    scales = reinterpret_cast<RowScale*>(memory + bytes);
  }

  int rows(const LinearInt8& call, int64_t tile) const {
    return static_cast<int>(smaller(int64_t{kRows}, call.rows - tile * kRows));
  }

  void fill(const LinearInt8& call, int64_t tile) const {
    const int count = rows(call, tile);
    const int64_t step = count * kInt8Depth;
    for (int r = 0; r < count; ++r) {
      const int64_t row = tile * kRows + r;
      T* to = elements + tile * kRows * depth + r * kInt8Depth;
      if (call.x8) {
        scales[row] = {*call.input_scale, *call.input_zero};
        copy_byte_row(call.x8 + row * call.in, call.in, to, step);
        continue;
      }
      const float* x = call.x + row * call.in;
      scales[row] = row_scale(x, call.in, Shape<kBits>::kLevels);
      if (call.input_scale) {
        // Of the row's own scale only its NaN is wanted, where the row is not finite.
        const float poison = scales[row].scale - scales[row].scale;
        scales[row] = {*call.input_scale + poison, *call.input_zero};
      }
      quantize_spread(x, call.in, scales[row], Shape<kBits>::kLevels, to, step);
    }
  }

  int64_t depth, tiles;
  T* elements;
  RowScale* scales;
};

template <Bits kBits>
void run(const LinearInt8& call, const Workers& workers) {
  constexpr int kRows = Shape<kBits>::kRows, kColumns = Shape<kBits>::kColumns;
  const Packed<kBits> x(call);
  parallel(workers, x.tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) x.fill(call, t);
  });
  const int64_t panels = (call.out + kColumns - 1) / kColumns;
  const int64_t tile_bytes = kRows * x.depth * static_cast<int64_t>(sizeof(*x.elements));
  const int64_t blocks = (x.tiles * tile_bytes + kBlockBytes - 1) / kBlockBytes;
  const int64_t block_tiles = (x.tiles + blocks - 1) / blocks;
  const Quantized out_as = call.y8 ? Quantized{*call.output_scale, *call.output_zero, Shape<kBits>::kLevels} : Quantized{};
  parallel(workers, blocks * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t panel = unit % panels, column = panel * kColumns;
      const int64_t first = unit / panels * block_tiles, last = smaller(x.tiles, first + block_tiles);
      const Columns<kColumns> by(call, column);
      const int8_t* w = call.weight + column * x.depth;
      for (int64_t t = first; t < last; ++t) {
        const int rows = x.rows(call, t);
        alignas(32) int32_t sums[kRows * kColumns];
        expect(call, t * kRows, rows, column);
        if (unit + 1 < end && panel + 1 < panels) fetch_ahead(w + kColumns * x.depth, kColumns * x.depth, t - first, last - first);
        tile_rows<kBits>(rows, x.elements + t * kRows * x.depth, w, x.depth, sums);
        for (int r = 0; r < rows; ++r) {
          const int64_t row = t * kRows + r;
          finish(call, sums + r * kColumns, x.scales[row], by, row * call.out + column, call.out - column, out_as);
        }
      }
    }
  });
}

}  // namespace

void linear_int8(const LinearInt8& call, const Workers& workers) {
  if (call.rows == 0 || call.out == 0) return;
  switch (call.bits) {
    case Bits::kW8A8: return run<Bits::kW8A8>(call, workers);
    case Bits::kW8A7:
    case Bits::kW7A7: return run<Bits::kW7A7>(call, workers);
  }
}

}  // namespace PERFQ_ISA
}  // namespace perfq
