// Which instruction set this processor runs, of those that the build has compiled: PERFQ_SETS(SET) is SET(name) for each, the
// best first.

#include <cstring>

#include "launch.h"
#include "processor.h"

#ifdef __x86_64__
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#define PERFQ_DECLARE(isa) \
  namespace isa {          \
  extern const Kernels kernels; \
  }
#define PERFQ_ADDRESS(isa) &isa::kernels,
#define PERFQ_NAME(isa) ", " #isa

namespace perfq {

PERFQ_SETS(PERFQ_DECLARE)

const char* const kSetNames = "auto" PERFQ_SETS(PERFQ_NAME);

namespace {

const Kernels* const kSets[] = {PERFQ_SETS(PERFQ_ADDRESS)};
const Kernels* guest = nullptr;

#ifdef __x86_64__
// Whether the system lets this process use tiles, which it does not before it is asked: for all threads, and only once. Linux,
// Documentation/arch/x86/xstate.rst.
bool may_use_tiles() {
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

uint32_t units() {
#ifdef __x86_64__
  Leaves leaves{};
  uint32_t eax, ebx, ecx, edx;
  constexpr uint32_t kKeepsWide = 1u << 27;  // OSXSAVE: xgetbv may be asked
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) leaves.ecx1 = ecx;
  if (leaves.ecx1 & kKeepsWide) asm("xgetbv" : "=a"(leaves.xcr0), "=d"(edx) : "c"(0));
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    leaves.ebx7 = ebx, leaves.ecx7 = ecx, leaves.edx7 = edx;
    const bool more = eax >= 1;
    if (more && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) leaves.eax7_1 = eax;
  }
  const uint32_t found = units_of(leaves);
  return (found & kAmx) && !may_use_tiles() ? found & ~kAmx : found;
#else
  return 0;
#endif
}

}  // namespace

const Kernels* find_kernels(const char* isa) {
  if (guest && std::strcmp(isa, guest->isa) == 0) return guest;
  const uint32_t here = units();
  for (const Kernels* one : kSets) {
    const bool wanted = std::strcmp(isa, "auto") == 0 || std::strcmp(isa, one->isa) == 0;
    if (wanted && (one->needs & ~here) == 0) return one;
  }
  return nullptr;
}

// The tests bring a set whose instructions are played by others, and choose it by name. Returns this processor's best.
extern "C" __attribute__((visibility("default"))) const Kernels* perfq_bring_kernels(const Kernels* brought) {
  guest = brought;
  return find_kernels("auto");
}

}  // namespace perfq
