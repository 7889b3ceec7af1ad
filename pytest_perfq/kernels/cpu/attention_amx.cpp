// softmax(scale q k') v within each sequence of a packed batch, by the tiles of AMX: queries, keys, values and the weights of
// the softmax are rounded to bfloat16, and all that is summed is float.
//
// For one head of one sequence keys and values are packed into tiles; then 32 queries at a time see the keys a chunk at a time,
// with a running maximum (online softmax). A row of scores becomes a row of weights where it lies, as the left factor of the
// values. Behind the values stands a column of ones: the products of the rounded weights with it are their sum. Levels of uint8
// are whole numbers up to 255, which bfloat16 holds as they are: their scale is multiplied in where the scores and the outputs
// are float.

#include "attention.h"

#ifdef PERFQ_AMX

#include "attention_tiles.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

constexpr int kQueries = 32;
// Most keys of a chunk: 32 x 160 scores are 20 KiB, half of an L1 of 48. Longer sequences go by nearly equal chunks.
constexpr int64_t kChunk = 160;
// The step between rows of scores is an odd number of lines, so that those of a tile lie in different sets. Of five such steps
// this one was the fastest below 100 keys, by 2 to 12 %, and as fast as any above.
constexpr int64_t kScoreStep = 400;

// Up to so many tokens are packed, and scores of so many keys softened, in twice the time that the multiplier of tiles stays
// awake.
constexpr int64_t kAwakeTokens = 64, kAwakeKeys = 160;

struct Buffers {
  uint8_t *keys, *values, *queries;
  float *scores, *out, *rows;
};

int64_t depth_steps(int64_t size) { return (size + kTmmDepth - 1) / kTmmDepth; }
// Tiles of 16 columns of the values and the column of ones.
int64_t value_tiles(int64_t size) { return size / kTmmColumns + 1; }
int64_t key_tiles(int64_t length) { return (length + kTmmRows - 1) / kTmmRows; }

Buffers buffers(const Attention& call, int64_t length) {
  const int64_t keys = key_tiles(length) * depth_steps(call.size) * kTmm;
  const int64_t values = depth_steps(length) * value_tiles(call.size) * kTmm, queries = depth_steps(call.size) * 2 * kTmm;
  const int64_t scores = kQueries * kScoreStep, out = kQueries * value_tiles(call.size) * kTmmColumns;
  const int64_t floats = scores + out + rows_of(call, length);
  Buffers found;
  found.keys = static_cast<uint8_t*>(scratch(kScores, keys + values + queries + sizeof(float) * floats));
  found.values = found.keys + keys;
  found.queries = found.values + values;
  found.scores = reinterpret_cast<float*>(found.queries + queries);
  found.out = found.scores + scores;
  found.rows = found.out + out;
  return found;
}

int64_t chunk_step(int64_t length) {
  const int64_t chunks = (length + kChunk - 1) / kChunk;
  return round_up((length + chunks - 1) / chunks, kTmmDepth);
}

// Keys: tiles [16 keys][32 of the depth]; values: tiles [16 columns][32 keys].
template <bool kWhole>
void pack_head(const Source& from, int64_t length, int64_t size, const Buffers& buffer) {
  const int64_t key_step = depth_steps(size) * kTmm;
  for (int64_t key = 0; key < length; key += kTmmRows) {
    const float* at = from.at + from.part + key * from.stride;
    const RowsAt rows{at, from.stride, smaller(int64_t{kTmmRows}, length - key), size};
    pack_transposed<kWhole>(rows, buffer.keys + key / kTmmRows * key_step);
  }
  if (length <= kAwakeTokens) stay_awake();
  for (int64_t key = 0; key < length; key += kTmmDepth) {
    const float* at = from.at + 2 * from.part + key * from.stride;
    pack_with_ones({at, from.stride, smaller(int64_t{kTmmDepth}, length - key), size}, buffer.values + key / kTmmDepth * kTmm,
                   depth_steps(length) * kTmm);
  }
}

Row largest(Row a, Row b) {
#ifdef __AVX512F__
  return (Row)_mm512_maskz_max_ps(0xFFFF, (__m512)a, (__m512)b);
#else
  return a > b ? a : b;
#endif
}

float highest_of(Row v) {
  const Vec first = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
  return highest(maximum(first, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15)));
}

// 2^x for x <= 0, relative error 1e-4, a twentieth of what rounding to bfloat16 does; under 2^-126 it gives 2^-126. A denormal
// would cost a processor a hundred times as much.
Row exp2_roughly(Row x) {
  x = largest(row(-126.0f), x);
#ifdef __AVX512F__
  const Row f = (Row)_mm512_maskz_reduce_ps(0xFFFF, (__m512)x, 0x9);  // x - floor(x)
#else
  RowInts whole = __builtin_convertvector(x, RowInts);
  whole += __builtin_convertvector(whole, Row) > x;  // true is -1
  const Row f = x - __builtin_convertvector(whole, Row);
#endif
  // Minimax of 2^f on [0, 1] in relative error among those that are 1 at 0 and 2 at 1.
  Row p = row(7.8268232e-2f);
  p = p * f + row(2.2630727e-1f);
  p = p * f + row(6.9542449e-1f);
  p = p * f + row(1.0f);
#ifdef __AVX512F__
  return (Row)_mm512_maskz_scalef_ps(0xFFFF, (__m512)p, (__m512)x);  // p 2^floor(x)
#else
  return p * (Row)((whole + 127) << 23);
#endif
}

// scores[0 .. count) become bfloat16(2^(factor (score - maximum))), to where they lie; the rest of their last 32 is finite. The
// running maximum moves on, and what was summed before is to be rescaled by the number returned, in the first chunk nothing. A
// NaN among the scores is its own weight, whatever the maximum is.
template <bool kFirst>
float soften(float* scores, int64_t count, float factor, float& highest_so_far) {
  if (const int64_t left = count % kTmmDepth) {
    const RowInts index{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    float* last = scores + count - left;
    for (int i = 0; i < 2; ++i, last += kTmmFloats) {
      const RowInts ours = index < static_cast<int32_t>(left - i * kTmmFloats);
      store(last, ours ? load_row(last) : row(kLowest));
    }
  }
  Row high = row(kFirst ? kLowest : highest_so_far), more = high;
  for (int64_t key = 0; key < count; key += kTmmDepth) {
    high = largest(high, load_row(scores + key));
    more = largest(more, load_row(scores + key + kTmmFloats));
  }
  const float top = highest_of(largest(high, more));
  const Row factors = row(factor), tops = row(factor * top);
  uint8_t* to = reinterpret_cast<uint8_t*>(scores);
  for (int64_t key = 0; key < count; key += kTmmDepth, to += kTmmBytes) {
    const Row first = load_row(scores + key) * factors - tops, last = load_row(scores + key + kTmmFloats) * factors - tops;
    store(to, rounded(exp2_roughly(first), exp2_roughly(last)));
  }
  const float before = highest_so_far;
  highest_so_far = top;
  return kFirst ? 1.0f : exp2_roughly(row(factor * before - factor * top))[0];
}

// body<tiles>(first) for `count` tiles, three at a time while there are more.
template <class Body>
void each_strip(int64_t count, const Body& body) {
  int64_t tile = 0;
  for (; tile + 4 < count || tile + 3 == count; tile += 3) body.template operator()<3>(tile);
  for (; tile + 2 <= count; tile += 2) body.template operator()<2>(tile);
  if (tile < count) body.template operator()<1>(tile);
}

// A block of up to 16 kRows queries from `q` on; `unit` is what a value of one stands for.
template <int kRows>
void attend_block(const Attention& call, const Head& head, const Source& from, const Buffers& buffer, float unit, int64_t q,
                  int rows) {
  const int64_t depth = depth_steps(call.size), width = value_tiles(call.size) * kTmmColumns;
  const float factor = (call.scale < 0.0f ? -call.scale : call.scale) * kLog2E;
  for (int64_t r = 0; r < rows; r += kTmmRows) {
    const float* at = from.at + (q + r) * from.stride;
    const RowsAt some{at, from.stride, smaller(int64_t{kTmmRows}, rows - r), call.size};
    const auto pack = call.size % kTmmDepth ? pack_left<false> : pack_left<true>;
    pack(some, call.scale < 0.0f ? -1.0f : 1.0f, buffer.queries + r / kTmmRows * kTmm, kRows * kTmm);
  }
  float tops[kQueries];
  const int64_t step = chunk_step(head.length);
  for (int64_t key = 0; key < head.length; key += step) {
    const int64_t count = smaller(step, head.length - key), first = key / kTmmRows;
    const Factor queries{buffer.queries, kTmm, kRows * kTmm, kTmmBytes};
    each_strip(key_tiles(count), [&]<int kTiles>(int64_t tile) {
      const Factor keys{buffer.keys + (first + tile) * depth * kTmm, depth * kTmm, kTmm, kTmmBytes};
      multiply<kRows, kTiles, false>(queries, keys, depth, buffer.scores + tile * kTmmColumns, kScoreStep);
    });
    for (int r = 0; r < rows; ++r) {
      if (r == rows / 2 && count <= kAwakeKeys) stay_awake();
      if (key == 0) {
        soften<true>(buffer.scores + r * kScoreStep, count, factor, tops[r]);
        continue;
      }
      const float rescale = soften<false>(buffer.scores + r * kScoreStep, count, factor, tops[r]);
      float* out = buffer.out + r * width;
      for (int64_t j = 0; j < width; j += kTmmFloats) store(out + j, load_row(out + j) * row(rescale));
    }
    const int64_t scores_stride = kScoreStep * sizeof(float);
    const Factor weights{reinterpret_cast<uint8_t*>(buffer.scores), kTmmRows * scores_stride, kTmmBytes, scores_stride};
    each_strip(value_tiles(call.size), [&]<int kTiles>(int64_t tile) {
      const int64_t next = depth_steps(head.length) * kTmm;
      const Factor values{buffer.values + tile * next + key / kTmmDepth * kTmm, next, kTmm, kTmmBytes};
      float* out = buffer.out + tile * kTmmColumns;
      if (key == 0) {
        multiply<kRows, kTiles, false>(weights, values, depth_steps(count), out, width);
      } else {
        multiply<kRows, kTiles, true>(weights, values, depth_steps(count), out, width);
      }
    });
  }
  for (int r = 0; r < rows; ++r) {
    float* out = buffer.out + r * width;
    finish_row(call, head, q + r, out, share_of(unit, out[call.size], tops[r]));
  }
}

// A thread's part of a call.
class Share {
 public:
  static constexpr int64_t kPacking = 48;

  explicit Share(const Attention& of) : call(of), unit(of.qkv ? 1.0f : of.in_as.scale) {
    call.in_as.scale = 1.0f;
    call.scale *= unit * unit;
  }

  void pack(const Head& head) {
    buffer = buffers(call, head.length);
    from = source(call, head, buffer.rows);
    const auto pack_keys_and_values = call.size % kTmmDepth ? pack_head<false> : pack_head<true>;
    pack_keys_and_values(from, head.length, call.size, buffer);
  }

  // Queries [begin, end) of the head that was packed.
  void attend(const Head& head, int64_t begin, int64_t end) const {
    for (int64_t q = begin; q < end; q += kQueries) {
      const int rows = static_cast<int>(smaller(int64_t{kQueries}, end - q));
      expect_next(call, head, q, q + rows);
      if (rows > kTmmRows) {
        attend_block<2>(call, head, from, buffer, unit, q, rows);
      } else {
        attend_block<1>(call, head, from, buffer, unit, q, rows);
      }
    }
  }

 private:
  const Tmms tiles;
  Attention call;
  const float unit;
  Buffers buffer{};
  Source from{};
};

}  // namespace

void attention_rounded(const Attention& call, const Workers& workers) { run_all<Share>(call, workers); }

}  // namespace PERFQ_ISA
}  // namespace perfq

#endif
