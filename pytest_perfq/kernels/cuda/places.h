// How large a padded batch and a row may be.
#pragma once

#include "tensors.h"

namespace perfq::cuda {

constexpr int64_t kMostFeatures = 8192;  // that a row in registers holds

inline void check_batch(const char* op, int64_t batch, int64_t seq) {
  if (batch < 0 || seq < 0) refuse(op, "batch is ", batch, " and seq ", seq, "; neither can be negative");
  if (batch > kMostSequences) refuse(op, "the batch has ", batch, " rows; at most ", kMostSequences, " are run at once");
  if (seq > kMostPositions) refuse(op, "the batch is ", seq, " tokens wide; at most ", kMostPositions, " are run");
}

inline void check_features(const char* op, const char* name, int64_t features) {
  if (features < 1 || features > kMostFeatures) {
    refuse(op, name, " has ", features, " features; 1 to ", kMostFeatures, " are run");
  }
}

}  // namespace perfq::cuda
