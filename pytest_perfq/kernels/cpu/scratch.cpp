// Memory that a thread keeps between calls: a forward pass asks for the same sizes again and again.

#include <cstdlib>
#include <new>

#include "launch.h"

namespace perfq {
namespace {

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
  const size_t wanted = (bytes + kLine - 1) / kLine * kLine + kLine;
  if (kept.bytes[slot] < wanted) {
    std::free(kept.memory[slot]);
    kept.bytes[slot] = 0;
    kept.memory[slot] = std::aligned_alloc(kLine, wanted);
    if (!kept.memory[slot]) throw std::bad_alloc();
    kept.bytes[slot] = wanted;
  }
  return kept.memory[slot];
}

}  // namespace perfq
