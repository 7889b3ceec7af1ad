// softmax(scale q k') v within each sequence of a packed batch, in float, without a scores matrix.
//
// For one head of one sequence: keys are packed as panels [size][16], values as panels [keys][16]; then 12 queries at a
// time see the keys a chunk at a time, with a running maximum and sum (online softmax), so scores stay in L1 and a row of
// any length needs the same few kilobytes.

#include "launchers.h"
#include "parallel.h"
#include "quantizing.h"
#include "tile.h"

namespace perfq {
namespace PERFQ_ISA {
namespace {

constexpr int kQueries = 12;
// Queries of a tile: more rows that lie where they lie would want more pointers than there are registers.
constexpr int kScoreRows = 6;
// Keys a chunk: 12 x (384 + 16) scores are 19 KiB of L1. Sequences up to this length need no rescaling.
constexpr int64_t kChunk = 384;
// The step between rows of scores is not a multiple of 4 KiB, so that rows do not evict each other.
constexpr int64_t kScoreStep = kChunk + 16;
// Queries of one unit of work: enough to pay for packing keys and values again, few enough to share a long row out.
constexpr int64_t kUnit = 192;
constexpr float kLog2E = 1.44269504f;
constexpr float kLowest = -3.0e38f;

struct Head {  // one head of one sequence
  int64_t first, length, head;
};

struct Buffers {
  float *keys, *values, *scores, *out, *rows;
};

int64_t padded(int64_t count) { return round_up(count, kTileColumns); }

Buffers buffers(int64_t length, int64_t size, bool bytes) {
  const int64_t keys = padded(length) * size, values = length * padded(size);
  const int64_t scores = kQueries * kScoreStep, out = kQueries * padded(size);
  const int64_t rows = bytes ? 3 * length * size + kLanes : 0;
  float* memory = static_cast<float*>(scratch(kScores, sizeof(float) * (keys + values + scores + out + rows + 64)));
  Buffers found;
  found.keys = memory;
  found.values = found.keys + keys;
  found.scores = found.values + values;
  found.out = found.scores + scores;
  found.rows = found.out + out;
  return found;
}

// Where the queries, keys and values of a head lie: `stride` floats from token to token, `part` from one to the next.
struct Source {
  const float* at;
  int64_t stride, part;
};

Source source(const Attention& call, const Head& head, const Buffers& buffer) {
  const int64_t hidden = call.heads * call.size, stride = 3 * hidden;
  const int64_t start = head.first * stride + head.head * call.size;
  if (call.qkv) return {call.qkv + start, stride, hidden};
  for (int64_t token = 0; token < head.length; ++token) {
    for (int64_t part = 0; part < 3; ++part) {
      dequantize_row(call.qkv8 + start + token * stride + part * hidden, call.size, call.in_as,
                     buffer.rows + (token * 3 + part) * call.size);
    }
  }
  return {buffer.rows, 3 * call.size, call.size};
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
        store(to, load(v));
        store(to + kLanes, load(v + kLanes));
      } else {
        for (int64_t j = 0; j < kTileColumns; ++j) to[j] = j < width ? v[j] : 0.0f;
      }
    }
  }
}

// scores[r][0..keys) for one tile of queries; keys beyond the sequence get the lowest number.
void score(const float* queries, int64_t stride, int rows, const float* keys, int64_t count, int64_t size, float* scores) {
  each_strip(padded(count), [&]<int kPanels>(int64_t key) {
    tile_rows<kPanels, false, false, kScoreRows>(rows, queries, stride, keys + key * size, kTileColumns * size, size, nullptr,
                                                 scores + key, kScoreStep);
  });
  for (int r = 0; r < rows; ++r) {
    for (int64_t key = count; key < padded(count); ++key) scores[r * kScoreStep + key] = kLowest;
  }
}

// scores become 2^(scores - maximum), the running maximum and sum move on, and what was summed before is rescaled by the
// number returned (in the first chunk, by nothing). A NaN among the scores is its own 2^NaN, whatever the maximum is.
template <bool kFirst>
float soften(float* scores, int64_t count, float& maximum_so_far, float& sum_so_far) {
  Vec high = all(kFirst ? kLowest : maximum_so_far), more = all(kLowest);
  for (int64_t key = 0; key < padded(count); key += kTileColumns) {
    high = maximum(high, load(scores + key));
    more = maximum(more, load(scores + key + kLanes));
  }
  const float top = highest(maximum(high, more));
  Vec total = all(0.0f), other = all(0.0f);
  for (int64_t key = 0; key < padded(count); key += kTileColumns) {
    const Vec left = exp2_negative(load(scores + key) - all(top));
    const Vec right = exp2_negative(load(scores + key + kLanes) - all(top));
    store(scores + key, left);
    store(scores + key + kLanes, right);
    total += left;
    other += right;
  }
  float rescale = 1.0f;
  if (!kFirst) rescale = exp2_negative(all(maximum_so_far - top))[0];
  maximum_so_far = top;
  sum_so_far = (kFirst ? 0.0f : sum_so_far * rescale) + sum(total + other);
  return rescale;
}

// One block of up to 12 queries from `q` on: tiles of rows, whose scores and sums lie one under the other.
void attend_block(const Attention& call, const Head& head, const Source& from, const Buffers& buffer, int64_t q, int rows) {
  const int64_t width = padded(call.size);
  const Tiles queries(rows, kScoreRows), tiles(rows, kTileRows);
  float tops[kQueries], sums[kQueries];
  for (int64_t key = 0; key < head.length; key += kChunk) {
    const int64_t count = smaller(kChunk, head.length - key);
    for (int64_t t = 0; t < queries.count; ++t) {
      score(from.at + (q + queries.begin(t)) * from.stride, from.stride, queries.size(t), buffer.keys + key * call.size, count,
            call.size, buffer.scores + queries.begin(t) * kScoreStep);
    }
    for (int r = 0; r < rows; ++r) {
      if (key == 0) {
        soften<true>(buffer.scores + r * kScoreStep, count, tops[r], sums[r]);
        continue;
      }
      const float rescale = soften<false>(buffer.scores + r * kScoreStep, count, tops[r], sums[r]);
      float* out = buffer.out + r * width;
      for (int64_t j = 0; j < width; j += kLanes) store(out + j, load(out + j) * all(rescale));
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
  for (int r = 0; r < rows; ++r) {
    float* row = buffer.out + r * width;
    const Vec share = all(1.0f / sums[r]);
    const int64_t at = ((head.first + q + r) * call.heads + head.head) * call.size;
    float* to = call.out ? call.out + at : row;
    for (int64_t j = 0; j < call.size; j += kLanes) store(to + j, load(row + j) * share);
    if (!call.out) quantize_row(row, call.size, call.out_as, call.out8 + at);
  }
}

// Asks for the queries, keys and values of tokens [first, last) of the next head. They lie 3 hidden sizes apart, a stride that
// no hardware prefetcher follows, so they are fetched while this head is computed.
void expect_next(const Attention& call, const Head& head, int64_t first, int64_t last) {
  if (head.head + 1 == call.heads) return;
  const int64_t width = call.qkv ? sizeof(float) : sizeof(uint8_t), hidden = call.heads * call.size;
  const char* base = call.qkv ? reinterpret_cast<const char*>(call.qkv) : reinterpret_cast<const char*>(call.qkv8);
  for (int64_t token = head.first + first; token < head.first + last; ++token) {
    for (int64_t part = 0; part < 3; ++part) {
      const char* at = base + ((token * 3 + part) * hidden + (head.head + 1) * call.size) * width;
      for (int64_t byte = 0; byte < call.size * width; byte += 64) __builtin_prefetch(at + byte, 0, 2);
    }
  }
}

// Queries [begin, end) of one head.
void attend(const Attention& call, const Head& head, const Source& from, const Buffers& buffer, int64_t begin, int64_t end) {
  const Tiles blocks(end - begin, kQueries);
  for (int64_t b = 0; b < blocks.count; ++b) {
    const int64_t q = begin + blocks.begin(b);
    expect_next(call, head, q, q + blocks.size(b));
    attend_block(call, head, from, buffer, q, blocks.size(b));
  }
}

// What part [begin, end) of `shares` equal shares of the work is: units of a head and up to kUnit queries, weighed by
// their queries times keys plus the packing.
void run_shares(const Attention& call, int64_t begin, int64_t end, int64_t shares, int64_t total) {
  const int64_t from = total / shares * begin + smaller(begin, total % shares);
  const int64_t to = total / shares * end + smaller(end, total % shares);
  int64_t weight = 0;
  for (int64_t s = 0; s < call.sequences && weight < to; ++s) {
    const int64_t first = call.cu_seqlens[s], length = call.cu_seqlens[s + 1] - first;
    if (length == 0) continue;
    const int64_t whole = length * (length + kQueries);
    if (weight + whole * call.heads <= from) {  // none of this sequence is ours
      weight += whole * call.heads;
      continue;
    }
    const Buffers buffer = buffers(length, call.size, call.qkv8 != nullptr);
    for (int64_t h = 0; h < call.heads; ++h) {
      const Head head{first, length, h};
      Source source_of_head{};
      bool packed = false;
      for (int64_t q = 0; q < length; q += kUnit) {
        const int64_t stop = smaller(length, q + kUnit);
        const int64_t middle = weight + (stop - q) * (length + kQueries) / 2;
        weight += (stop - q) * (length + kQueries);
        if (middle < from || middle >= to) continue;  // a unit belongs to the share that its middle falls into
        if (!packed) {
          source_of_head = source(call, head, buffer);
          pack_head(source_of_head, length, call.size, call.scale * kLog2E, buffer);
          packed = true;
        }
        attend(call, head, source_of_head, buffer, q, stop);
      }
    }
  }
}

}  // namespace

void attention(const Attention& call, const Workers& workers) {
  int64_t total = 0;
  for (int64_t s = 0; s < call.sequences; ++s) {
    const int64_t length = call.cu_seqlens[s + 1] - call.cu_seqlens[s];
    total += length * (length + kQueries);
  }
  total *= call.heads;
  const int64_t shares = workers.threads;
  parallel(workers, shares, 1, [&](int64_t begin, int64_t end) { run_shares(call, begin, end, shares, total); });
}

}  // namespace PERFQ_ISA
}  // namespace perfq
