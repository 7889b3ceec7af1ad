// Tensor core products, and copies from global to shared memory that run beside them. Fragments lie in registers as the PTX
// manual has them ("Matrix Fragments for mma"): lane = 4 * group + place, group 0..7, place 0..3.
//
//   A 16 x 16 (two-byte types)    a0 (group, 2 place..)  a1 (group + 8, 2 place..)  a2, a3: the same, 8 columns on
//   B 16 x 8                      b0 (2 place.., group)  b1: 8 rows on
//   A 16 x 32 (bytes)             a0 (group, 4 place..)  a1 (group + 8, 4 place..)  a2, a3: the same, 16 columns on
//   B 32 x 8                      b0 (4 place.., group)  b1: 16 rows on
//   C and D 16 x 8                d0, d1 (group, 2 place and 2 place + 1)           d2, d3: the same of row group + 8
//
// On sm_75, whose products are half or a quarter as deep, one is made of two or four. f8 needs sm_89.
#pragma once

#include "device.cuh"

#ifdef PERFQ_EMULATED
#include "emulated_tensorcore.h"
#else

namespace perfq::cuda {

__device__ __forceinline__ uint32_t pack(f16 low, f16 high) {
  return static_cast<uint32_t>(__half_as_ushort(low)) | static_cast<uint32_t>(__half_as_ushort(high)) << 16;
}
__device__ __forceinline__ uint32_t pack(bf16 low, bf16 high) {
  return static_cast<uint32_t>(__bfloat16_as_ushort(low)) | static_cast<uint32_t>(__bfloat16_as_ushort(high)) << 16;
}

// d += a b, 16 x 8 by a depth of 16; T names what the bits are.
template <class T>
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void multiply<f16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
  }
#endif
}

template <>
__device__ __forceinline__ void multiply<bf16>(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();  // launchers refuse bf16 below sm_80
#endif
}

// d += a b, 16 x 8 by a depth of 32: a unsigned bytes, b signed.
__device__ __forceinline__ void multiply_u8s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
  for (int part = 0; part < 4; ++part) {
    const int low = part % 2, row = 2 * low;  // rows group, then group + 8; the first 16 of the depth, then the others
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.u8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
                 : "+r"(d[row]), "+r"(d[row + 1])
                 : "r"(a[part]), "r"(b[part / 2]));
  }
#endif
}

// d += a b, 16 x 8 by a depth of 32, of f8.
__device__ __forceinline__ void multiply_f8(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 890
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();  // launchers refuse f8 below sm_89
#endif
}

// Four 8 x 8 matrices of two-byte values (or 8 x 16 of bytes) from shared memory. Lane 8 m + r names the 16 bytes of row r of
// matrix m; register m gives lane 4 r + c the values 2c and 2c + 1 of its row r. transposed: of its column r.
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const void* row) {
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], const void* row) {
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
}

// 16 bytes to shared memory, of which the first `given` are read and the others are zero. It has happened when a wait for its
// group and a barrier have. On sm_75 it happens at once.
__device__ __forceinline__ void copy_async(void* to, const void* from, int given = 16) {
#if __CUDA_ARCH__ >= 800
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(given) : "memory");
#else
  uint4 value = make_uint4(0, 0, 0, 0);
  if (given == 16) {
    value = *static_cast<const uint4*>(from);
  } else {
    for (int byte = 0; byte < given; ++byte) {
      reinterpret_cast<unsigned char*>(&value)[byte] = static_cast<const unsigned char*>(from)[byte];
    }
  }
  *static_cast<uint4*>(to) = value;
#endif
}
__device__ __forceinline__ void close_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until all but the `LEFT` youngest groups of this thread have been copied.
template <int LEFT>
__device__ __forceinline__ void wait_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}

}  // namespace perfq::cuda
#endif
