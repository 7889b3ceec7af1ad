// softmax(scale q k') v within each sequence of a packed batch, in float, without a scores matrix.
//
// For one head of one sequence: keys are packed as panels [size][16], values as panels [keys][16]; then 12 queries at a
// time see the keys a chunk at a time, with a running maximum and sum (online softmax), so scores stay in L1 and a row of
// any length needs the same few kilobytes.

#include "attention.h"
#include "launchers.h"
#include "tile.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

constexpr int kQueries = 12;
// Keys a chunk: 12 x (384 + 16) scores are 19 KiB of L1. Sequences up to this length need no rescaling.
constexpr int64_t kChunk = 384;
// The step between rows of scores is not a multiple of 4 KiB, so that rows do not evict each other.
constexpr int64_t kScoreStep = kChunk + 16;

struct Buffers {
  float *keys, *values, *scores, *out, *rows;
};

int64_t padded(int64_t count) { return round_up(count, kTileColumns); }

Buffers buffers(const Attention& call, int64_t length) {
  const int64_t keys = padded(length) * call.size, values = length * padded(call.size);
  const int64_t scores = kQueries * kScoreStep, out = kQueries * padded(call.size), rows = rows_of(call, length);
  float* memory = static_cast<float*>(scratch(kScores, sizeof(float) * (keys + values + scores + out + rows + 64)));
  Buffers found;
  found.keys = memory;
  found.values = found.keys + keys;
  found.scores = found.values + values;
  found.out = found.scores + scores;
  found.rows = found.out + out;
  return found;
}

// Panels [size][16] of keys times `factor` and [length][16] of values, both zero-padded.
void pack_head(const Source& from, int64_t length, int64_t size, float factor, const Buffers& buffer) {
  for (int64_t key = 0; key < padded(length); key += kLanes) {
    const int rows = static_cast<int>(larger(int64_t{0}, smaller(int64_t{kLanes}, length - key)));
    float* to = buffer.keys + key / kTileColumns * kTileColumns * size + key % kTileColumns;
    pack_transposed(from.at + from.part + key * from.stride, from.stride, rows, size, factor, to, kTileColumns);
  }
  for (int64_t column = 0; column < padded(size); column += kTileColumns) {
    const int64_t width = smaller(int64_t{kTileColumns}, size - column);
    float* to = buffer.values + column * length;
    for (int64_t key = 0; key < length; ++key, to += kTileColumns) {
      const float* v = from.at + 2 * from.part + key * from.stride + column;
      if (width == kTileColumns) {
        for (int j = 0; j < kTileColumns; j += kWideLanes) store_wide(to + j, load_wide(v + j));
      } else {
        for (int64_t j = 0; j < kTileColumns; ++j) to[j] = j < width ? v[j] : 0.0f;
      }
    }
  }
}

// scores[r][0..keys) for one tile of queries; keys beyond the sequence get the lowest number.
void score(const float* queries, int64_t stride, int rows, const float* keys, int64_t count, int64_t size, float* scores) {
  each_strip(padded(count), [&]<int kPanels>(int64_t key) {
    tile_rows<kPanels, false, false>(rows, queries, stride, keys + key * size, kTileColumns * size, size, nullptr, scores + key,
                                     kScoreStep);
  });
  for (int r = 0; r < rows; ++r) {
    for (int64_t key = count; key < padded(count); ++key) scores[r * kScoreStep + key] = kLowest;
  }
}

// scores become 2^(scores - maximum), the running maximum and sum move on, and what was summed before is rescaled by the
// number returned (in the first chunk, by nothing). A NaN among the scores is its own 2^NaN, whatever the maximum is.
template <bool kFirst>
float soften(float* scores, int64_t count, float& maximum_so_far, float& sum_so_far) {
  Wide high[kColumns], total[kColumns] = {};
  for (Wide& one : high) one = wide(kFirst ? kLowest : maximum_so_far);
  for (int64_t key = 0; key < padded(count); key += kTileColumns) {
    PERFQ_UNROLL
    for (int v = 0; v < kColumns; ++v) high[v] = maximum(high[v], load_wide(scores + key + v * kWideLanes));
  }
  const float top = highest(maximum(high[0], high[kColumns - 1]));
  for (int64_t key = 0; key < padded(count); key += kTileColumns) {
    PERFQ_UNROLL
    for (int v = 0; v < kColumns; ++v) {
      const Wide power = exp2_negative(load_wide(scores + key + v * kWideLanes) - wide(top));
      store_wide(scores + key + v * kWideLanes, power);
      total[v] += power;
    }
  }
  float rescale = 1.0f;
  if (!kFirst) rescale = exp2_negative(all(maximum_so_far - top))[0];
  maximum_so_far = top;
  sum_so_far = (kFirst ? 0.0f : sum_so_far * rescale) + sum(kColumns == 2 ? total[0] + total[kColumns - 1] : total[0]);
  return rescale;
}

// One block of up to 12 queries from `q` on: tiles of rows, whose scores and sums lie one under the other.
void attend_block(const Attention& call, const Head& head, const Source& from, const Buffers& buffer, int64_t q, int rows) {
  const int64_t width = padded(call.size);
  const Tiles tiles(rows, kTileRows);
  float tops[kQueries], sums[kQueries];
  for (int64_t key = 0; key < head.length; key += kChunk) {
    const int64_t count = smaller(kChunk, head.length - key);
    for (int64_t t = 0; t < tiles.count; ++t) {
      score(from.at + (q + tiles.begin(t)) * from.stride, from.stride, tiles.size(t), buffer.keys + key * call.size, count,
            call.size, buffer.scores + tiles.begin(t) * kScoreStep);
    }
    for (int r = 0; r < rows; ++r) {
      if (key == 0) {
        soften<true>(buffer.scores + r * kScoreStep, count, tops[r], sums[r]);
        continue;
      }
      const float rescale = soften<false>(buffer.scores + r * kScoreStep, count, tops[r], sums[r]);
      float* out = buffer.out + r * width;
      for (int64_t j = 0; j < width; j += kWideLanes) store_wide(out + j, load_wide(out + j) * wide(rescale));
    }
    const int64_t panel = kTileColumns * head.length;
    each_strip(width, [&]<int kPanels>(int64_t j) {
      const float* values = buffer.values + j * head.length + key * kTileColumns;
      for (int64_t t = 0; t < tiles.count; ++t) {
        const float* p = buffer.scores + tiles.begin(t) * kScoreStep;
        float* out = buffer.out + tiles.begin(t) * width + j;
        if (key == 0) {
          tile_rows<kPanels, false, false>(tiles.size(t), p, kScoreStep, values, panel, count, nullptr, out, width);
        } else {
          tile_rows<kPanels, false, true>(tiles.size(t), p, kScoreStep, values, panel, count, nullptr, out, width);
        }
      }
    });
  }
  for (int r = 0; r < rows; ++r) finish_row(call, head, q + r, buffer.out + r * width, share_of(1.0f, sums[r], tops[r]));
}

// A thread's part of a call.
class Share {
 public:
  static constexpr int64_t kPacking = kQueries;

  explicit Share(const Attention& of) : call(of) {}

  void pack(const Head& head) {
    buffer = buffers(call, head.length);
    from = source(call, head, buffer.rows);
    pack_head(from, head.length, call.size, call.scale * kLog2E, buffer);
  }

  // Queries [begin, end) of the head that was packed.
  void attend(const Head& head, int64_t begin, int64_t end) const {
    const Tiles blocks(end - begin, kQueries);
    for (int64_t b = 0; b < blocks.count; ++b) {
      const int64_t q = begin + blocks.begin(b);
      expect_next(call, head, q, q + blocks.size(b));
      attend_block(call, head, from, buffer, q, blocks.size(b));
    }
  }

 private:
  const Attention& call;
  Buffers buffer{};
  Source from{};
};

}  // namespace

void attention(const Attention& call, const Workers& workers) {
#ifdef PERFQ_AMX
  if (call.may_round) return attention_rounded(call, workers);
#endif
  run_all<Share>(call, workers);
}

}  // namespace PERFQ_ISA
}  // namespace perfq
