// Units of an x86 processor that kernels may be compiled for: those that this file is compiled for, and those of a processor.
#pragma once

#include <cstdint>

namespace perfq {

enum Unit : uint32_t {
  kAvx2 = 1,
  kFma = 2,
  kAvxVnni = 4,
  kAvx512F = 8,
  kAvx512Bw = 16,
  kAvx512Dq = 32,
  kAvx512Vl = 64,
  kAvx512Vnni = 128,
  kAvx512Bf16 = 256,
  kAmxTile = 512,
  kAmxInt8 = 1024,
  kAmxBf16 = 2048,
};
constexpr uint32_t kAmx = kAmxTile | kAmxInt8 | kAmxBf16;

// What the code of this file may use.
constexpr uint32_t kCompiledFor = 0
#ifdef __AVX2__
                                  | kAvx2
#endif
#ifdef __FMA__
                                  | kFma
#endif
#ifdef __AVXVNNI__
                                  | kAvxVnni
#endif
#ifdef __AVX512F__
                                  | kAvx512F
#endif
#ifdef __AVX512BW__
                                  | kAvx512Bw
#endif
#ifdef __AVX512DQ__
                                  | kAvx512Dq
#endif
#ifdef __AVX512VL__
                                  | kAvx512Vl
#endif
#ifdef __AVX512VNNI__
                                  | kAvx512Vnni
#endif
#ifdef __AVX512BF16__
                                  | kAvx512Bf16
#endif
#ifdef __AMX_TILE__
                                  | kAmxTile
#endif
#ifdef __AMX_INT8__
                                  | kAmxInt8
#endif
#ifdef __AMX_BF16__
                                  | kAmxBf16
#endif
    ;

// What cpuid and xgetbv say, registers of leaves that are not there being zero. Intel's manual, volume 2, CPUID.
struct Leaves {
  uint32_t ecx1, ebx7, ecx7, edx7, eax7_1;  // leaf 1; leaf 7, subleaf 0; leaf 7, subleaf 1
  uint32_t xcr0;                            // which registers the system keeps; 0 without xgetbv
};

// Units whose registers the system keeps as well: without its help a wide register is lost at the next switch of threads.
constexpr uint32_t units_of(const Leaves& leaves) {
  constexpr uint32_t kYmm = 0x6, kZmm = 0xE6, kTmm = 0x600E6;
  const struct {
    Unit unit;
    uint32_t place, bit, state;
  } units[] = {
      {kAvx2, leaves.ebx7, 5, kYmm},       {kFma, leaves.ecx1, 12, kYmm},       {kAvxVnni, leaves.eax7_1, 4, kYmm},
      {kAvx512F, leaves.ebx7, 16, kZmm},   {kAvx512Bw, leaves.ebx7, 30, kZmm},  {kAvx512Dq, leaves.ebx7, 17, kZmm},
      {kAvx512Vl, leaves.ebx7, 31, kZmm},  {kAvx512Vnni, leaves.ecx7, 11, kZmm}, {kAvx512Bf16, leaves.eax7_1, 5, kZmm},
      {kAmxTile, leaves.edx7, 24, kTmm},   {kAmxInt8, leaves.edx7, 25, kTmm},   {kAmxBf16, leaves.edx7, 22, kTmm},
  };
  uint32_t found = 0;
  for (const auto& one : units) {
    if ((one.place >> one.bit & 1) != 0 && (leaves.xcr0 & one.state) == one.state) found |= one.unit;
  }
  return found;
}

}  // namespace perfq
