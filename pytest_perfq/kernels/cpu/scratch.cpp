// Memory that a thread keeps between calls: a forward pass asks for the same sizes again and again.

#include <cstdlib>
#include <cstring>
#include <new>

#include "launch.h"

namespace perfq {
namespace {

// Under the address sanitizer every call gives new memory of just so many bytes, none of them a number: in kept memory, which is
// larger and holds what was there before, it would find nothing.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kKeeps = false;
#else
constexpr bool kKeeps = true;
#endif

struct Kept {
  void* memory[kSlots] = {};
  size_t bytes[kSlots] = {};
  ~Kept() {
    for (void* one : memory) std::free(one);
  }
};

thread_local Kept kept;

}  // namespace

void* scratch(Slot slot, size_t bytes) {
  constexpr size_t kLine = 64;
  const size_t wanted = kKeeps ? (bytes + kLine - 1) / kLine * kLine + kLine : bytes;
  if (!kKeeps || kept.bytes[slot] < wanted) {
    std::free(kept.memory[slot]);
    kept.memory[slot] = nullptr;
    kept.bytes[slot] = 0;
    if (posix_memalign(&kept.memory[slot], kLine, wanted) != 0) throw std::bad_alloc();
    kept.bytes[slot] = wanted;
    if (!kKeeps) std::memset(kept.memory[slot], 0xFF, wanted);
  }
  return kept.memory[slot];
}

}  // namespace perfq
