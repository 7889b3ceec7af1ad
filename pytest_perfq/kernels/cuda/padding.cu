// Where the real tokens of a mask stand, and rows of tokens back to where they stood.

#include "padding.cuh"

namespace perfq::cuda {
namespace {

constexpr int kPackWarps = 32;
constexpr int kPieces = 4;                    // of a warp's run, whose loads are under way together
constexpr int kPiece = 2 * kWarp;             // places: 16 bytes of mask a lane
constexpr int kRun = kPieces * kPiece;        // of a warp
constexpr int kTile = kPackWarps * kRun;      // of the block
constexpr int kRestoreWarps = 4;
constexpr int kPlaces = 4;  // that a warp restores side by side, so that each lane has four loads under way

// What a lane sees of its warp's run: bits 2 p and 2 p + 1 are its two places of piece p.
__device__ __forceinline__ uint32_t look(const PackTokens& a, uint32_t places, uint32_t first) {
  uint32_t found = 0;
#pragma unroll
  for (int piece = 0; piece < kPieces; ++piece) {
    const uint32_t place = first + static_cast<uint32_t>(piece * kPiece);
    if (place + 1 < places) {
      const Vector<int64_t, 2> both = load<2>(a.mask + place);
      found |= (both.at[0] != 0 ? 1u : 0u) << 2 * piece | (both.at[1] != 0 ? 2u : 0u) << 2 * piece;
    } else if (place < places) {
      found |= (a.mask[place] != 0 ? 1u : 0u) << 2 * piece;
    }
  }
  return found;
}

// Tokens in the warps before this one, and in all; counts: kPackWarps numbers of shared memory, written by now.
struct Before {
  uint32_t here, all;
};
__device__ __forceinline__ Before scan(const uint32_t* counts) {
  uint32_t sum = counts[lane()];
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const uint32_t lower = __shfl_up_sync(kAllLanes, sum, step);
    if (lane() >= step) sum += lower;
  }
  const uint32_t here = __shfl_sync(kAllLanes, sum, (warp() + kWarp - 1) % kWarp);
  return {warp() == 0 ? 0 : here, __shfl_sync(kAllLanes, sum, kWarp - 1)};
}

struct Packing {
  const PackTokens& a;
  uint32_t places, seq, tokens;

  __device__ __forceinline__ void see(uint32_t place, bool begins, uint32_t row, bool real, uint32_t rank) const {
    if (begins && place < places) a.cu_seqlens[row] = static_cast<int32_t>(min(rank, tokens));
    if (real && rank < tokens) a.index[rank] = static_cast<int32_t>(place);
  }

  // A warp's run, whose first token is number `rank`.
  __device__ __forceinline__ void write(uint32_t found, uint32_t first, uint32_t rank) const {
    const uint32_t below = (1u << lane()) - 1;
    uint32_t row = first / seq, column = first % seq;
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const bool left = found >> 2 * piece & 1, right = found >> 2 * piece & 2;
      const uint32_t even = __ballot_sync(kAllLanes, left), odd = __ballot_sync(kAllLanes, right);
      const uint32_t place = first + static_cast<uint32_t>(piece * kPiece);
      const uint32_t mine = rank + static_cast<uint32_t>(__popc(even & below) + __popc(odd & below));
      see(place, column == 0, row, left, mine);
      see(place + 1, column + 1 == seq, row + 1, right, mine + (left ? 1 : 0));
      rank += static_cast<uint32_t>(__popc(even) + __popc(odd));
      column += kPiece;
      if (column >= seq) {
        row += column / seq;
        column %= seq;
      }
    }
  }
};

// One pass over the mask by one block: a token's number is what was counted before it, and a sequence begins with the number of
// its first place. 8 bytes a place at the bandwidth of one SM, which no encoder keeps up with: a block more would need a second
// launch or memory of zeros to meet in. The next tile is under way while one is written.
__global__ void __launch_bounds__(kPackWarps* kWarp) pack_tokens(PackTokens a) {
  PERFQ_SHARED(shared);
  uint32_t* counts = reinterpret_cast<uint32_t*>(shared);  // two sets in turn: one barrier a tile
  const uint32_t places = static_cast<uint32_t>(a.batch * a.seq), tokens = static_cast<uint32_t>(a.tokens);
  const Packing packing{a, places, static_cast<uint32_t>(a.seq), tokens};
  const uint32_t thread = threadIdx.x, mine = static_cast<uint32_t>(warp() * kRun + 2 * lane());
  uint32_t found = 0;
  uint32_t next = look(a, places, mine);
  for (uint32_t start = 0; start < places; start += kTile) {
    const uint32_t pieces = next;
    uint32_t count = static_cast<uint32_t>(__popc(pieces));
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) count += __shfl_xor_sync(kAllLanes, count, step);
    if (lane() == 0) counts[warp()] = count;
    next = look(a, places, start + kTile + mine);
    __syncthreads();
    const Before before = scan(counts);
    packing.write(pieces, start + mine, found + before.here);
    found += before.all;
    counts = reinterpret_cast<uint32_t*>(shared) + (start / kTile % 2 == 0 ? kPackWarps : 0);
  }
  const uint32_t batch = static_cast<uint32_t>(a.batch);  // without places nothing has been written yet
  for (uint32_t row = (places == 0 ? 0 : batch) + thread; row <= batch; row += kPackWarps * kWarp) {
    a.cu_seqlens[row] = static_cast<int32_t>(min(found, tokens));
  }
  __syncthreads();  // what was written to index may have to be spoilt
  const bool spoilt = found > tokens;
  for (uint32_t token = (spoilt ? 0 : found) + thread; token < tokens; token += kPackWarps * kWarp) {
    a.index[token] = spoilt ? kSpoilt : kNoPlace;
  }
}

// Words of any type, 16 bytes where rows are whole ones: all bits set is NaN in each.
//
// Bytes moved: a row a token in, a row a place out.
template <class Word>
__global__ void __launch_bounds__(kRestoreWarps* kWarp) restore(Restore a, int words, Word zero, Word nan) {
  const int64_t first = (int64_t{blockIdx.x} * kRestoreWarps + warp()) * kPlaces;
  if (first >= a.places) return;  // whole warps
  const int tokens = static_cast<int>(a.tokens);
  int token = first_token(a.index, tokens, static_cast<uint32_t>(first));
  const int place_of_lane = lane() < kPlaces && token + lane() < tokens ? a.index[token + lane()] : kNoPlace;
  const Word empty = is_spoilt(a.index, tokens) ? nan : zero;
  int from[kPlaces];  // the token of each place, or -1
#pragma unroll
  for (int one = 0; one < kPlaces; ++one) {
    from[one] = __ballot_sync(kAllLanes, place_of_lane == static_cast<int>(first) + one) ? token++ : -1;
  }
  const Word* x = static_cast<const Word*>(a.x);
  Word* y = static_cast<Word*>(a.y) + first * words;
  for (int word = lane(); word < words; word += kWarp) {
    Word values[kPlaces];
#pragma unroll
    for (int one = 0; one < kPlaces; ++one) values[one] = from[one] < 0 ? empty : x[int64_t{from[one]} * words + word];
#pragma unroll
    for (int one = 0; one < kPlaces; ++one) {
      if (first + one < a.places) y[int64_t{one} * words + word] = values[one];
    }
  }
}

using Words = Vector<uint32_t, 4>;
constexpr uint32_t kOnes = 0xffffffffu;

template <class Word>
int launch_restore(const Restore& a, int64_t words, Word zero, Word nan, void* stream) {
  const unsigned blocks = static_cast<unsigned>((a.places + kRestoreWarps * kPlaces - 1) / (kRestoreWarps * kPlaces));
  return PERFQ_LAUNCH(restore<Word>, blocks, kRestoreWarps * kWarp, 0, stream, a, static_cast<int>(words), zero, nan);
}

}  // namespace

extern "C" int perfq_cuda_pack_tokens(const PackTokens* given, void* stream) {
  const PackTokens a = *given;
  return PERFQ_LAUNCH(pack_tokens, 1, kPackWarps * kWarp, 2 * kPackWarps * sizeof(uint32_t), stream, a);
}

extern "C" int perfq_cuda_restore(const Restore* given, void* stream) {
  if (given->places == 0 || given->size == 0) return 0;
  const Restore a = *given;
  const int64_t bytes = a.size * (a.type == Type::kF32 ? 4 : 2);
  if (bytes % kVectorBytes == 0) {
    return launch_restore(a, bytes / kVectorBytes, Words{{0, 0, 0, 0}}, Words{{kOnes, kOnes, kOnes, kOnes}}, stream);
  }
  if (a.type == Type::kF32) return launch_restore(a, a.size, uint32_t{0}, kOnes, stream);
  return launch_restore(a, a.size, uint16_t{0}, uint16_t{0xffff}, stream);
}

}  // namespace perfq::cuda
