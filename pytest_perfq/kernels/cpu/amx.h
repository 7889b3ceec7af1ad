// The tiles of AMX: eight registers of 16 rows by 64 bytes, and their products. PERFQ_AMX is defined where this file is compiled
// for them, or where PERFQ_PLAYED_AMX names a header that plays the functions below in plain C++: so the tests run what is built on
// them on a machine that lacks them.
//
// The instructions stand in assembly because the compiler's own macros take a number and not a template's argument. Nobody else
// uses tiles between two of them, so that nothing need be said of what they change.
#pragma once

#include "simd.h"

#if defined(PERFQ_PLAYED_AMX) || (defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__))
#define PERFQ_AMX

namespace perfq {
namespace PERFQ_ISA {

constexpr int kTmms = 8, kTmmRows = 16, kTmmBytes = 64;
constexpr int kTmmColumns = kTmmBytes / 4;  // of sums

#ifndef PERFQ_PLAYED_AMX

// What ldtilecfg reads. Intel's manual, volume 2, LDTILECFG.
struct alignas(64) TmmShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// While it lives, this thread has all eight, whole; before and after nothing is kept of them at a switch of threads. One at a time: the
// end of a second would take them from the first.
class Tmms {
 public:
  Tmms() {
    TmmShapes shapes;
    for (int t = 0; t < kTmms; ++t) shapes.bytes[t] = kTmmBytes, shapes.rows[t] = kTmmRows;
    asm volatile("ldtilecfg %0" ::"m"(shapes));
  }
  ~Tmms() { asm volatile("tilerelease"); }
  Tmms(const Tmms&) = delete;
  Tmms& operator=(const Tmms&) = delete;
};

template <int T>
inline void tmm_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(T));
}
inline void seen_rows([[maybe_unused]] const void* at, [[maybe_unused]] int64_t stride) {
#ifdef __SANITIZE_ADDRESS__
  for (int r = 0; r < kTmmRows; ++r) seen(static_cast<const char*>(at) + r * stride, kTmmBytes);
#endif
}
// Rows `stride` bytes apart.
template <int T>
inline void tmm_load(const void* from, int64_t stride) {
  seen_rows(from, stride);
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
}
template <int T>
inline void tmm_store(void* to, int64_t stride) {
  seen_rows(to, stride);
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
}
// Sums[m][n] += the products over k of X[m][k], a row of 64 unsigned bytes, with W[k / 4][n][k % 4], signed: of int32, that wrap
// around.
template <int kSums, int kX, int kW>
inline void tmm_dot_bytes() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kX), "i"(kW));
}
// The same where X is signed too.
template <int kSums, int kX, int kW>
inline void tmm_dot_signed_bytes() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kX), "i"(kW));
}
// Sums[m][n] += the products over k of X[m][k], a row of 32 bfloat16, with W[k / 2][n][k % 2]: of float.
template <int kSums, int kX, int kW>
inline void tmm_dot_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kX), "i"(kW));
}

#endif

}  // namespace PERFQ_ISA
}  // namespace perfq

#ifdef PERFQ_PLAYED_AMX
#include PERFQ_PLAYED_AMX
#endif

#endif
