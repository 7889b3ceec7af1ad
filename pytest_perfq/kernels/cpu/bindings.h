// What every binding calls: the table of launchers, and the threads of torch.
//
// bindings_*.cpp are the ops of csrc/schema.cpp on the CPU, by family: each checks what it is given, makes the output and calls
// the launcher. They alone know torch, and that through its stable ABI.
#pragma once

#include "arguments.h"

namespace perfq {

const Kernels& kernels();  // those that select_isa chose, at first the best
Workers workers();         // the threads of torch, as many as it says now

// The same, where they multiply bfloat16; refuses elsewhere.
const Kernels& bf16_kernels(const char* op);

}  // namespace perfq
