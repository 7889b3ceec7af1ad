// What a CUDA binding asks of its tensors, and where its kernels are queued. Sentences as in csrc/tensors.h.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include "../csrc/tensors.h"
#include "launch.h"

// In the library of a CUDA build of torch; the weak reference lets ours load, and be looked at, without one.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** ret_stream);

namespace perfq::cuda {

constexpr int64_t kMostSequences = 4096;
constexpr int64_t kMostPositions = 4096;

// A tensor that a kernel reads: on the op's device, contiguous, and beginning at a multiple of 16 bytes. Held as long as it lives.
class Operand {
 public:
  Operand(const char* op, const char* name, const Tensor& given, int64_t dimensions, ScalarType type)
      : op_(op), name_(name), tensor_(given) {
    if (given.scalar_type() != type) refuse(op, name, " is ", type_name(given.scalar_type()), ", not ", type_name(type));
    if (given.dim() != dimensions) refuse(op, name, " has ", given.dim(), " dimensions, not ", dimensions);
#ifndef PERFQ_EMULATED
    if (!given.is_cuda()) refuse(op, name, " is not on a GPU; the other tensors are");
#endif
    if (!given.is_contiguous()) tensor_ = torch::stable::contiguous(given);
    if (reinterpret_cast<uintptr_t>(tensor_.const_data_ptr()) % 16) tensor_ = torch::stable::clone(tensor_);
  }

  template <class T>
  const T* as() const {
    return static_cast<const T*>(tensor_.const_data_ptr());
  }
  const void* data() const { return tensor_.const_data_ptr(); }
  const Tensor& tensor() const { return tensor_; }
  int64_t size(int64_t dimension) const { return tensor_.size(dimension); }
  int64_t count() const { return tensor_.numel(); }

  // Its only dimension must be as long as `wants`, which is what `other` says.
  const Operand& long_as(const char* other, int64_t wants) const {
    agree(op_, name_.c_str(), count(), other, wants);
    return *this;
  }

 private:
  const char* op_;
  std::string name_;
  Tensor tensor_;
};

class MaybeOperand {
 public:
  MaybeOperand(const char* op, const char* name, const std::optional<Tensor>& given, int64_t dimensions, ScalarType type) {
    if (given) operand_.emplace(op, name, *given, dimensions, type);
  }
  const void* data() const { return operand_ ? operand_->data() : nullptr; }
  explicit operator bool() const { return operand_.has_value(); }
  const Operand* operator->() const { return &*operand_; }

 private:
  std::optional<Operand> operand_;
};

// The float type that all tensors of a call share, which is that of `given`.
inline Type float_type(const char* op, const char* name, const Tensor& given) {
  switch (given.scalar_type()) {
    case ScalarType::Float: return Type::kF32;
    case ScalarType::Half: return Type::kF16;
    case ScalarType::BFloat16: return Type::kBF16;
    default: refuse(op, name, " is ", type_name(given.scalar_type()), ", not float32, float16 or bfloat16");
  }
}

inline Activation activation_of(const char* op, const std::string& name) {
  const char* known[] = {"none", "relu", "tanh", "gelu", "gelu_tanh"};  // in the order of Activation
  for (int32_t one = 0; one < 5; ++one) {
    if (name == known[one]) return static_cast<Activation>(one);
  }
  refuse(op, "unknown activation '", name, "'; known: none, relu, tanh, gelu, gelu_tanh");
}

inline int32_t levels_of(const char* op, int64_t levels) {
  if (levels != 255 && levels != 127) refuse(op, "levels is ", levels, "; it is 255 (8 bits) or 127 (7 bits)");
  return static_cast<int32_t>(levels);
}

// Queues a launcher on torch's current stream of the tensor's device, with that device current.
template <class Arguments>
void queue(const char* op, const Tensor& on, int (*launcher)(const Arguments*, void*), const Arguments& arguments) {
  void* stream = nullptr;
#ifndef PERFQ_EMULATED
  const int32_t device = on.get_device_index();
  if (!aoti_torch_get_current_cuda_stream) refuse(op, "this torch was built without CUDA; install a CUDA build of it");
  const torch::stable::accelerator::DeviceGuard guard(device);
  if (aoti_torch_get_current_cuda_stream(device, &stream) != 0) refuse(op, "torch has no current stream on GPU ", device);
#else
  (void)on;
#endif
  if (const int code = launcher(&arguments, stream)) refuse(op, "the launch failed: ", perfq_cuda_error(code));
}

}  // namespace perfq::cuda
