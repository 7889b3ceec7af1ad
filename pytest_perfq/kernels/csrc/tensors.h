// What a binding asks of its tensors before a launcher sees their pointers. A sentence names the op, the thing and both
// values.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace perfq {

using torch::headeronly::BFloat16;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class... Parts>
[[noreturn]] void refuse(const char* op, const Parts&... parts) {
  std::string text = std::string("perfq::") + op + ": ";
  const auto add = [&text](const auto& part) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(part)>>) {
      text += std::to_string(part);
    } else {
      text += part;
    }
  };
  (add(parts), ...);
  throw std::runtime_error(text);
}

inline const char* type_name(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Char: return "int8";
    case ScalarType::Byte: return "uint8";
    case ScalarType::Double: return "float64";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Bool: return "bool";
    default: return "another type";
  }
}

template <class T>
constexpr ScalarType scalar_type() {
  if constexpr (std::is_same_v<T, float>) return ScalarType::Float;
  if constexpr (std::is_same_v<T, int32_t>) return ScalarType::Int;
  if constexpr (std::is_same_v<T, int64_t>) return ScalarType::Long;
  if constexpr (std::is_same_v<T, int8_t>) return ScalarType::Char;
  if constexpr (std::is_same_v<T, BFloat16>) return ScalarType::BFloat16;
  return ScalarType::Byte;
}

// A contiguous tensor of one type and number of dimensions, held as long as its pointer is used.
template <class T>
class Input {
 public:
  Input(const char* op, const char* name, const Tensor& given, int64_t dimensions) : tensor_(given) {
    if (given.scalar_type() != scalar_type<T>()) {
      refuse(op, name, " is ", type_name(given.scalar_type()), ", not ", type_name(scalar_type<T>()));
    }
    if (given.dim() != dimensions) refuse(op, name, " has ", given.dim(), " dimensions, not ", dimensions);
    if (!given.is_contiguous()) tensor_ = torch::stable::contiguous(given);
  }

  const T* data() const { return static_cast<const T*>(tensor_.const_data_ptr()); }
  int64_t size(int64_t dimension) const { return tensor_.size(dimension); }
  int64_t count() const { return tensor_.numel(); }

 private:
  Tensor tensor_;
};

template <class T>
class MaybeInput {
 public:
  MaybeInput(const char* op, const char* name, const std::optional<Tensor>& given, int64_t dimensions) {
    if (given) input_.emplace(op, name, *given, dimensions);
  }

  const T* data() const { return input_ ? input_->data() : nullptr; }
  int64_t size(int64_t dimension) const { return input_->size(dimension); }
  int64_t count() const { return input_->count(); }
  explicit operator bool() const { return input_.has_value(); }

 private:
  std::optional<Input<T>> input_;
};

// Two sizes that must agree, such as "x has 7 features, and the weight 8".
inline void agree(const char* op, const char* one, int64_t has, const char* other, int64_t wants) {
  if (has != wants) refuse(op, one, " ", has, ", and ", other, " ", wants);
}

inline Tensor make(std::vector<int64_t> sizes, ScalarType type) {
  return torch::stable::empty(torch::headeronly::IntHeaderOnlyArrayRef(sizes.data(), sizes.size()), type);
}

// The same on the device of `like`.
inline Tensor make_beside(const Tensor& like, std::vector<int64_t> sizes, ScalarType type) {
  return torch::stable::new_empty(like, torch::headeronly::IntHeaderOnlyArrayRef(sizes.data(), sizes.size()), type);
}
inline Tensor zeros_beside(const Tensor& like, std::vector<int64_t> sizes, ScalarType type) {
  return torch::stable::new_zeros(like, torch::headeronly::IntHeaderOnlyArrayRef(sizes.data(), sizes.size()), type);
}

template <class T>
T* data_of(Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace perfq
