// What both kernels of attention share: where the heads of a packed batch lie, and which thread computes which of them.
#pragma once

#include "amx.h"
#include "parallel.h"
#include "quantizing.h"

namespace perfq {
namespace PERFQ_ISA {

constexpr float kLog2E = 1.44269504f;
constexpr float kLowest = -3.0e38f;
// Queries of one unit of work: enough to pay for packing keys and values again, few enough to share a long row out.
constexpr int64_t kUnit = 192;

#ifdef PERFQ_AMX
// What `attention` does of a call that may round.
void attention_rounded(const Attention& call, const Workers& workers);
#endif

struct Head {  // one head of one sequence
  int64_t first, length, head;
};

// Where the queries, keys and values of a head lie: `stride` floats from token to token, `part` from one to the next.
struct Source {
  const float* at;
  int64_t stride, part;
};

// Floats that `source` needs for a head of this length.
inline int64_t rows_of(const Attention& call, int64_t length) { return call.qkv ? 0 : 3 * length * call.size + kLanes; }

// rows: what is quantized is read into them.
inline Source source(const Attention& call, const Head& head, float* rows) {
  const int64_t hidden = call.heads * call.size, stride = 3 * hidden;
  const int64_t start = head.first * stride + head.head * call.size;
  if (call.qkv) return {call.qkv + start, stride, hidden};
  for (int64_t token = 0; token < head.length; ++token) {
    for (int64_t part = 0; part < 3; ++part) {
      dequantize_row(call.qkv8 + start + token * stride + part * hidden, call.size, call.in_as,
                     rows + (token * 3 + part) * call.size);
    }
  }
  return {rows, 3 * call.size, call.size};
}

// What a row is multiplied by after its sums: `unit` of the sum of its weights, `top` being the largest of its scores. Where every
// score is -inf there is no softmax, and NaN says so as torch.softmax does: the mean of the values would hide it.
inline float share_of(float unit, float sum, float top) { return top > kLowest ? unit / sum : __builtin_nanf(""); }

// out[query] = row * share. What is to be quantized is scaled where it lies.
inline void finish_row(const Attention& call, const Head& head, int64_t query, float* row, float share) {
  const int64_t at = ((head.first + query) * call.heads + head.head) * call.size;
  float* to = call.out ? call.out + at : row;
  int64_t j = 0;
  for (; j + kWideLanes <= call.size; j += kWideLanes) store_wide(to + j, load_wide(row + j) * wide(share));
  for (; j < call.size; j += kLanes) store(to + j, load(row + j) * all(share));
  if (!call.out) quantize_row(row, call.size, call.out_as, call.out8 + at);
}

// Asks for the queries, keys and values of tokens [first, last) of the next head. They lie 3 hidden sizes apart, a stride that
// no hardware prefetcher follows, so they are fetched while this head is computed.
inline void expect_next(const Attention& call, const Head& head, int64_t first, int64_t last) {
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

// What a unit of `queries` costs: its queries times keys, and the packing.
template <class Share>
inline int64_t weight_of(int64_t queries, int64_t length) {
  return queries * (length + Share::kPacking);
}

// What part [begin, end) of `shares` equal shares of the work is: units of a head and up to kUnit queries, weighed.
template <class Share>
inline void run_shares(const Attention& call, int64_t begin, int64_t end, int64_t shares, int64_t total) {
  const int64_t from = total / shares * begin + smaller(begin, total % shares);
  const int64_t to = total / shares * end + smaller(end, total % shares);
  int64_t weight = 0;
  Share share(call);
  for (int64_t s = 0; s < call.sequences && weight < to; ++s) {
    const int64_t first = call.cu_seqlens[s], length = call.cu_seqlens[s + 1] - first;
    if (length == 0) continue;
    const int64_t whole = weight_of<Share>(length, length);
    if (weight + whole * call.heads <= from) {  // none of this sequence is ours
      weight += whole * call.heads;
      continue;
    }
    for (int64_t h = 0; h < call.heads; ++h) {
      const Head head{first, length, h};
      bool packed = false;
      for (int64_t q = 0; q < length; q += kUnit) {
        const int64_t stop = smaller(length, q + kUnit), mine = weight_of<Share>(stop - q, length);
        const int64_t middle = weight + mine / 2;
        weight += mine;
        if (middle < from || middle >= to) continue;  // a unit belongs to the share that its middle falls into
        if (!packed) share.pack(head);
        packed = true;
        share.attend(head, q, stop);
      }
    }
  }
}

// The whole call. A thread makes a Share of the call, which packs a head and attends to some of its queries, and says by kPacking
// to how many queries' work a token's packing comes.
template <class Share>
inline void run_all(const Attention& call, const Workers& workers) {
  int64_t total = 0;
  for (int64_t s = 0; s < call.sequences; ++s) {
    const int64_t length = call.cu_seqlens[s + 1] - call.cu_seqlens[s];
    total += weight_of<Share>(length, length);
  }
  total *= call.heads;
  const int64_t shares = workers.threads;
  parallel(workers, shares, 1, [&](int64_t begin, int64_t end) { run_shares<Share>(call, begin, end, shares, total); });
}

}  // namespace PERFQ_ISA
}  // namespace perfq
