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

inline float tmm_number(const uint8_t* from) {
  uint16_t upper;
  memcpy(&upper, from, sizeof upper);
  const uint32_t bits = uint32_t{upper} << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return tmm_flushed(value);
}

template <int kSums, int kX, int kW>
inline void tmm_dot_bf16() {
  Tmm &sums = used_tmm(kSums), &x = used_tmm(kX), &w = used_tmm(kW);
  for (int m = 0; m < kTmmRows; ++m) {
    float row[kTmmColumns];
    memcpy(row, sums.bytes[m], sizeof row);
    for (int n = 0; n < kTmmColumns; ++n) {
      float halves[2] = {};
      for (int k = 0; k < kTmmBytes / 2; ++k) {
        float& half = halves[k % 2];
        half = tmm_flushed(std::fma(tmm_number(x.bytes[m] + 2 * k), tmm_number(w.bytes[k / 2] + 4 * n + k % 2 * 2), half));
      }
      row[n] = tmm_flushed(tmm_flushed(row[n]) + tmm_flushed(halves[0] + halves[1]));
    }
    memcpy(sums.bytes[m], row, sizeof row);
  }
}

}  // namespace PERFQ_ISA
}  // namespace perfq
