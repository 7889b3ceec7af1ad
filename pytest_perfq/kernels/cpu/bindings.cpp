// Which instruction set the ops run on, and on how many threads.

#include "bindings.h"

#include <torch/csrc/stable/library.h>

#include <atomic>

namespace perfq {
namespace {

std::atomic<const Kernels*> chosen{find_kernels("auto")};

std::string select_isa(std::string wanted) {
  const Kernels* found = find_kernels(wanted.c_str());
  if (!found) refuse("select_isa", "this processor or this library has no '", wanted, "'; the library has: ", kSetNames);
  chosen.store(found);
  return found->isa;
}

}  // namespace

const Kernels& kernels() { return *chosen.load(std::memory_order_relaxed); }

const Kernels& bf16_kernels(const char* op) {
  const Kernels& found = kernels();
  if (found.linear_bf16) return found;
  refuse(op, "bfloat16 weights are multiplied by avx512_bf16, and the kernels run on '", found.isa, "'; pack float32 weights");
}

Workers workers() {
  return {static_cast<int>(torch::stable::get_num_threads()),
          [](int64_t count, int64_t grain, void (*body)(int64_t, int64_t, void*), void* context) {
            torch::stable::parallel_for(0, count, grain, [=](int64_t begin, int64_t end) { body(begin, end, context); });
          }};
}

STABLE_TORCH_LIBRARY_IMPL(perfq, CompositeExplicitAutograd, m) { m.impl("select_isa", TORCH_BOX(&select_isa)); }

}  // namespace perfq
