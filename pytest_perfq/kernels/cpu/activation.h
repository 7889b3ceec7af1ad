// Activations of vectors of floats: Vec or Wide, as the caller has them.
#pragma once

#include <cmath>

#include "launch.h"
#include "simd.h"

namespace perfq {
namespace PERFQ_ISA {

// Every function takes N vectors at once: one alone waits for each multiply-add of its own polynomial, four in step do not.

// x Phi(x) with Phi(x) = 1/2 + x Q(x^2), Q a minimax polynomial on |x| <= limit in s = 2 x^2 / limit^2 - 1, where its
// coefficients stay small and Horner's rule loses nothing. There is no division and no exponential.
template <int kDegree, class V, int N>
inline void gelu_by(V (&x)[N], const float (&q)[kDegree + 1], float limit) {
  V near[N], s[N], p[N];
  PERFQ_UNROLL
  for (int i = 0; i < N; ++i) {
    near[i] = minimum(every<V>(limit), maximum(every<V>(-limit), x[i]));
    s[i] = near[i] * near[i] * every<V>(2.0f / (limit * limit)) - every<V>(1.0f);
    p[i] = every<V>(q[kDegree]);
  }
  PERFQ_UNROLL
  for (int at = kDegree - 1; at >= 0; --at) {
    PERFQ_UNROLL
    for (int i = 0; i < N; ++i) p[i] = p[i] * s[i] + every<V>(q[at]);
  }
  PERFQ_UNROLL
  for (int i = 0; i < N; ++i) x[i] *= every<V>(0.5f) + near[i] * p[i];
}

// GELU by erf, absolute error 5e-7 for |x| < 4 and 2e-7 relative beyond.
template <class V, int N>
inline void gelu(V (&x)[N]) {
  constexpr float q[] = {1.359499842e-01f, -6.774361432e-02f, 5.002546683e-02f, -3.993205726e-02f, 3.197525814e-02f,
                         -2.469841950e-02f, 1.803358085e-02f, -1.262099203e-02f, 8.375566453e-03f, -4.540960304e-03f,
                         1.994068502e-03f, -1.467838301e-03f, 1.193442266e-03f, -3.896677517e-04f};
  gelu_by<13>(x, q, 5.2f);
}

// The same to 8e-6 for |x| < 4, 4e-5 at 8 and 6e-5 at 12. Only for linears in INT8, whose rounding is far coarser.
template <class V, int N>
inline void gelu_for_int8(V (&x)[N]) {
  constexpr float q[] = {1.569053084e-01f, -7.718332857e-02f, 5.467117950e-02f, -4.029584303e-02f, 2.862946503e-02f,
                         -1.816186123e-02f, 1.012713555e-02f, -6.673572119e-03f, 4.664905369e-03f, -1.573388232e-03f};
  gelu_by<9>(x, q, 4.5f);
}

// x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3): x (1 + tanh u) / 2 without cancellation.
template <class V>
inline V gelu_tanh(V x) {
  const V twice_u_log2e = x * (every<V>(2.3022082f) + x * x * every<V>(0.10294324f));
  const V e = exp2_negative(minimum(twice_u_log2e, -twice_u_log2e));
  const V numerator = twice_u_log2e < every<V>(0.0f) ? e : every<V>(1.0f);
  return x * numerator / (every<V>(1.0f) + e);
}

template <class V>
inline V tanh_of(V x) {
  constexpr int kCount = sizeof(V) / sizeof(float);
  for (int lane = 0; lane < kCount; ++lane) x[lane] = tanhf(x[lane]);
  return x;
}

template <Activation kActivation, bool kForInt8, class V, int N>
inline void activate(V (&x)[N]) {
  if constexpr (kActivation == Activation::kGelu && kForInt8) {
    gelu_for_int8(x);
  } else if constexpr (kActivation == Activation::kGelu) {
    gelu(x);
  } else {
    PERFQ_UNROLL
    for (int i = 0; i < N; ++i) {
      if constexpr (kActivation == Activation::kGeluTanh) x[i] = gelu_tanh(x[i]);
      if constexpr (kActivation == Activation::kRelu) x[i] = maximum(every<V>(0.0f), x[i]);
      if constexpr (kActivation == Activation::kTanh) x[i] = tanh_of(x[i]);
    }
  }
}

// body<activation>(): who goes through many vectors chooses once, before. Chosen for each few, they go to the stack and back.
template <class Body>
inline void for_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::kNone: return body.template operator()<Activation::kNone>();
    case Activation::kRelu: return body.template operator()<Activation::kRelu>();
    case Activation::kTanh: return body.template operator()<Activation::kTanh>();
    case Activation::kGelu: return body.template operator()<Activation::kGelu>();
    case Activation::kGeluTanh: return body.template operator()<Activation::kGeluTanh>();
  }
}

template <bool kForInt8, class V, int N>
inline void activate(Activation activation, V (&x)[N]) {
  for_activation(activation, [&]<Activation kActivation>() { activate<kActivation, kForInt8>(x); });
}

}  // namespace PERFQ_ISA
}  // namespace perfq
