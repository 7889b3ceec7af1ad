// What the ops are registered as: a library of the tests, which runs the CUDA kernels on a CPU, has another namespace.
#pragma once

#include <torch/csrc/stable/library.h>

#ifndef PERFQ_OPS
#define PERFQ_OPS perfq
#define PERFQ_CUDA CUDA
#endif

// One more expansion than torch's macros make themselves.
#define PERFQ_LIBRARY(ops, m) STABLE_TORCH_LIBRARY(ops, m)
#define PERFQ_LIBRARY_IMPL(ops, key, m) STABLE_TORCH_LIBRARY_IMPL(ops, key, m)
