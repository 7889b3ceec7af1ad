// The tiles of cpu/amx.h in plain C++, for machines without them: Intel's manual, volume 2, TDPBUSD, TDPBSSD and TDPBF16PS. Of bfloat16 the
// products of the earlier and of the later one of each pair are added up apart, each addition rounded once, denormals are zeros
// wherever they are read or made, and what the tile held comes last.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdlib>

namespace perfq {
namespace PERFQ_ISA {

struct Tmm {
  uint8_t bytes[kTmmRows][kTmmBytes];
};
inline thread_local Tmm tmm[kTmms];
inline thread_local bool tmms_in_use = false;

// Using a tile that is not configured ends the process, as the processor does.
inline Tmm& used_tmm(int number) {
  if (!tmms_in_use) std::abort();
  return tmm[number];
}

class Tmms {
 public:
  Tmms() {
    if (tmms_in_use) std::abort();  // another configuration would lose what the tiles hold
    tmms_in_use = true;
    for (Tmm& one : tmm) one = Tmm{};
  }
  ~Tmms() { tmms_in_use = false; }
  Tmms(const Tmms&) = delete;
  Tmms& operator=(const Tmms&) = delete;
};

template <int T>
inline void tmm_zero() {
  used_tmm(T) = Tmm{};
}

template <int T>
inline void tmm_load(const void* from, int64_t stride) {
  Tmm& to = used_tmm(T);
  for (int row = 0; row < kTmmRows; ++row) memcpy(to.bytes[row], static_cast<const char*>(from) + row * stride, kTmmBytes);
}

template <int T>
inline void tmm_store(void* to, int64_t stride) {
  const Tmm& from = used_tmm(T);
  for (int row = 0; row < kTmmRows; ++row) memcpy(static_cast<char*>(to) + row * stride, from.bytes[row], kTmmBytes);
}

template <class X, int kSums, int kX, int kW>
inline void tmm_dot() {
  Tmm &sums = used_tmm(kSums), &x = used_tmm(kX), &w = used_tmm(kW);
  for (int m = 0; m < kTmmRows; ++m) {
    int32_t row[kTmmColumns];
    memcpy(row, sums.bytes[m], sizeof row);
    for (int k = 0; k < kTmmBytes; ++k) {
      for (int n = 0; n < kTmmColumns; ++n) {
        row[n] += int32_t{static_cast<X>(x.bytes[m][k])} * static_cast<int8_t>(w.bytes[k / 4][4 * n + k % 4]);
      }
    }
    memcpy(sums.bytes[m], row, sizeof row);
  }
}

template <int kSums, int kX, int kW>
inline void tmm_dot_bytes() {
  tmm_dot<uint8_t, kSums, kX, kW>();
}
template <int kSums, int kX, int kW>
inline void tmm_dot_signed_bytes() {
  tmm_dot<int8_t, kSums, kX, kW>();
}

inline float tmm_flushed(float value) { return std::fabs(value) < FLT_MIN ? std::copysign(0.0f, value) : value; }

// Number k of each row's 32, row by row.
struct TmmNumbers {
  explicit TmmNumbers(const Tmm& from) {
    for (int row = 0; row < kTmmRows; ++row) {
      for (int k = 0; k < kTmmBytes / 2; ++k) {
        uint16_t upper;
        memcpy(&upper, from.bytes[row] + 2 * k, sizeof upper);
        const uint32_t bits = uint32_t{upper} << 16;
        memcpy(&of[row][k], &bits, sizeof bits);
        of[row][k] = tmm_flushed(of[row][k]);
      }
    }
  }
  float of[kTmmRows][kTmmBytes / 2];
};

template <int kSums, int kX, int kW>
inline void tmm_dot_bf16() {
  Tmm& sums = used_tmm(kSums);
  const TmmNumbers x(used_tmm(kX)), w(used_tmm(kW));
  for (int m = 0; m < kTmmRows; ++m) {
    float row[kTmmColumns], halves[kTmmBytes / 2] = {};  // of each column the sum of earlier products, and of later ones
    memcpy(row, sums.bytes[m], sizeof row);
    for (int k = 0; k < kTmmRows; ++k) {
      for (int n = 0; n < kTmmBytes / 2; ++n) {
        halves[n] = tmm_flushed(__builtin_fmaf(x.of[m][2 * k + n % 2], w.of[k][n], halves[n]));
      }
    }
    for (int n = 0; n < kTmmColumns; ++n) {
      row[n] = tmm_flushed(tmm_flushed(row[n]) + tmm_flushed(halves[2 * n] + halves[2 * n + 1]));
    }
    memcpy(sums.bytes[m], row, sizeof row);
  }
}

}  // namespace PERFQ_ISA
}  // namespace perfq
