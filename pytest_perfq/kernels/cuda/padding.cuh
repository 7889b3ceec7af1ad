// Where in `index` a place stands: how padding is put back without another pass that writes zeros.
#pragma once

#include "device.cuh"

namespace perfq::cuda {

// The first token at or behind `place`, by one warp: 32 pieces a step, so 16384 tokens take three loads. index rises, and its
// tail of negative numbers is the largest there is where it is read as unsigned.
__device__ __forceinline__ int first_token(const int32_t* index, int tokens, uint32_t place) {
  int first = 0, left = tokens;  // the answer is one of first .. first + left
  while (left > 0) {
    const int step = (left + kWarp - 1) / kWarp;
    const int last = (lane() + 1) * step - 1;  // of this lane's piece
    const bool before = last < left && static_cast<uint32_t>(index[first + last]) < place;
    const int pieces = __popc(__ballot_sync(kAllLanes, before));
    first += pieces * step;
    left = min(step - 1, left - pieces * step);
  }
  return first;
}

// What stands at a place without a token: zero, or where index says that it holds no places, a NaN.
__device__ __forceinline__ bool is_spoilt(const int32_t* index, int tokens) { return tokens > 0 && index[0] == kSpoilt; }

}  // namespace perfq::cuda
