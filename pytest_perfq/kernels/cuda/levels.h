// A scale and a zero of a whole tensor, as the INT8 bindings take them. They stay on the GPU: nobody looks at their values.
#pragma once

#include "tensors.h"

namespace perfq::cuda {

class HeldLevels {
 public:
  // of: whose they are, such as "the output".
  HeldLevels(const char* op, const char* of, const Tensor& scale, const Tensor& zero)
      : scale_(one(op, std::string("the scale of ") + of, scale, ScalarType::Float)),
        zero_(one(op, std::string("the zero of ") + of, zero, ScalarType::Int)) {}

  Levels pointers() const { return {scale_.as<float>(), zero_.as<int32_t>()}; }

 private:
  static Operand one(const char* op, const std::string& name, const Tensor& given, ScalarType type) {
    const Operand held(op, name.c_str(), given, 1, type);
    if (held.count() != 1) refuse(op, name, " holds ", held.count(), " numbers, not 1");
    return held;
  }

  Operand scale_, zero_;
};

}  // namespace perfq::cuda
