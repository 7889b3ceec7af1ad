// Activations of eight floats at a time.
#pragma once

#include <cmath>

#include "launch.h"
#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {

// Every function takes N vectors at once: one alone waits for each multiply-add of its own polynomial, four in step do not.

// x Phi(x) with Phi(x) = 1/2 + x Q(x^2), Q a minimax polynomial on |x| <= limit in s = 2 x^2 / limit^2 - 1, where its
// coefficients stay small and Horner's rule loses nothing. There is no division and no exponential.
template <int kDegree, int N>
inline void gelu_by(Vec (&x)[N], const float (&q)[kDegree + 1], float limit) {
  Vec near[N], s[N], p[N];
  PERFQ_UNROLL
  for (int i = 0; i < N; ++i) {
    near[i] = minimum(all(limit), maximum(all(-limit), x[i]));
    s[i] = near[i] * near[i] * all(2.0f / (limit * limit)) - all(1.0f);
    p[i] = all(q[kDegree]);
  }
  PERFQ_UNROLL
  for (int at = kDegree - 1; at >= 0; --at) {
    PERFQ_UNROLL
    for (int i = 0; i < N; ++i) p[i] = p[i] * s[i] + all(q[at]);
  }
  PERFQ_UNROLL
  for (int i = 0; i < N; ++i) x[i] *= all(0.5f) + near[i] * p[i];
}

// GELU by erf, absolute error 5e-7 for |x| < 4 and 2e-7 relative beyond.
template <int N>
inline void gelu(Vec (&x)[N]) {
  constexpr float q[] = {1.359499842e-01f, -6.774361432e-02f, 5.002546683e-02f, -3.993205726e-02f, 3.197525814e-02f,
                         -2.469841950e-02f, 1.803358085e-02f, -1.262099203e-02f, 8.375566453e-03f, -4.540960304e-03f,
                         1.994068502e-03f, -1.467838301e-03f, 1.193442266e-03f, -3.896677517e-04f};
  gelu_by<13>(x, q, 5.2f);
}

// The same to 8e-6 for |x| < 4, 4e-5 at 8 and 6e-5 at 12. Only for linears in INT8, whose rounding is far coarser.
template <int N>
inline void gelu_for_int8(Vec (&x)[N]) {
  constexpr float q[] = {1.569053084e-01f, -7.718332857e-02f, 5.467117950e-02f, -4.029584303e-02f, 2.862946503e-02f,
                         -1.816186123e-02f, 1.012713555e-02f, -6.673572119e-03f, 4.664905369e-03f, -1.573388232e-03f};
  gelu_by<9>(x, q, 4.5f);
}

// x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3): x (1 + tanh u) / 2 without cancellation.
inline Vec gelu_tanh(Vec x) {
  const Vec twice_u_log2e = x * (all(2.3022082f) + x * x * all(0.10294324f));
  const Vec e = exp2_negative(minimum(twice_u_log2e, -twice_u_log2e));
  const Vec numerator = twice_u_log2e < all(0.0f) ? e : all(1.0f);
  return x * numerator / (all(1.0f) + e);
}

inline Vec tanh_of(Vec x) {
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = tanhf(x[lane]);
  return x;
}

template <bool kForInt8, int N>
inline void activate(Activation activation, Vec (&x)[N]) {
  switch (activation) {
    case Activation::kGelu:
      if constexpr (kForInt8) {
        gelu_for_int8(x);
      } else {
        gelu(x);
      }
      return;
    case Activation::kGeluTanh:
      for (Vec& one : x) one = gelu_tanh(one);
      return;
    case Activation::kRelu:
      for (Vec& one : x) one = maximum(all(0.0f), one);
      return;
    case Activation::kTanh:
      for (Vec& one : x) one = tanh_of(one);
      return;
    case Activation::kNone:
      return;
  }
}

}  // namespace PERFQ_ISA
}  // namespace perfq
