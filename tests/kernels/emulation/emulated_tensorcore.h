// tensorcore.cuh on a CPU: fragments are gathered from the 32 lanes into matrices, multiplied, and handed back, by the tables of
// the PTX manual.
#pragma once

#include "emulation.h"

namespace perfq::cuda {

inline uint32_t pack(f16 low, f16 high) { return static_cast<uint32_t>(low.bits) | static_cast<uint32_t>(high.bits) << 16; }
inline uint32_t pack(bf16 low, bf16 high) { return static_cast<uint32_t>(low.bits) | static_cast<uint32_t>(high.bits) << 16; }

namespace emulated {

struct Fragments {
  uint32_t a[4], b[2];
};

// The product's element d[one] of this lane. A register of `T` holds `PER` values; the depth of one product is 8 * PER.
template <class Sum, class A, class B, int PER, class Value>
void multiply(Sum (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Value value) {
  Fragments mine;
  std::memcpy(mine.a, a, sizeof mine.a);
  std::memcpy(mine.b, b, sizeof mine.b);
  const unsigned char* slots = emulation::meet(&mine, sizeof mine);
  const auto of = [slots](int lane) {
    Fragments found;
    std::memcpy(&found, slots + static_cast<size_t>(lane) * emulation::kSlotBytes, sizeof found);
    return found;
  };
  const int lane = emulation::lane_of_warp();
  for (int one = 0; one < 4; ++one) {
    const int row = lane / 4 + (one / 2) * 8, column = lane % 4 * 2 + one % 2;
    Sum sum = 0;
    for (int k = 0; k < 8 * PER; ++k) {
      const int place = k % (4 * PER) / PER, in = k % PER, later = k / (4 * PER);
      const Fragments left = of(row % 8 * 4 + place), right = of(column * 4 + place);
      A x;
      B y;
      std::memcpy(&x, reinterpret_cast<const unsigned char*>(&left.a[2 * later + row / 8]) + in * sizeof(A), sizeof x);
      std::memcpy(&y, reinterpret_cast<const unsigned char*>(&right.b[later]) + in * sizeof(B), sizeof y);
      sum += value(x) * value(y);
    }
    d[one] += sum;
  }
}

template <bool TRANSPOSED>
void load_matrices(uint32_t (&to)[4], const void* row) {
  uint16_t values[8];
  std::memcpy(values, row, sizeof values);
  const unsigned char* slots = emulation::meet(values, sizeof values);
  const int lane = emulation::lane_of_warp();
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t pair[2];
    for (int one = 0; one < 2; ++one) {
      const int r = TRANSPOSED ? lane % 4 * 2 + one : lane / 4, c = TRANSPOSED ? lane / 4 : lane % 4 * 2 + one;
      std::memcpy(&pair[one], slots + static_cast<size_t>(8 * matrix + r) * emulation::kSlotBytes + c * 2, 2);
    }
    std::memcpy(&to[matrix], pair, 4);
  }
}

}  // namespace emulated

template <class T>
void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulated::multiply<float, T, T, 2>(d, a, b, [](T value) { return to_float(value); });
}
inline void multiply_u8s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulated::multiply<int32_t, uint8_t, int8_t, 4>(d, a, b, [](auto value) { return static_cast<int32_t>(value); });
}
inline void multiply_f8(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulated::multiply<float, f8, f8, 4>(d, a, b, [](f8 value) { return to_float(value); });
}
inline void load_matrices(uint32_t (&to)[4], const void* row) { emulated::load_matrices<false>(to, row); }
inline void load_matrices_transposed(uint32_t (&to)[4], const void* row) { emulated::load_matrices<true>(to, row); }
inline void copy_async(void* to, const void* from, int given = 16) { emulation::copy_later(to, from, 16, static_cast<size_t>(given)); }
inline void close_copies() { emulation::close_group(); }
template <int LEFT>
void wait_copies() {
  emulation::wait_groups(LEFT);
}

}  // namespace perfq::cuda
