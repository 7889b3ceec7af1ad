// What the bindings call: one table of launchers per instruction set, plain pointers and sizes, no torch.
//
// A launcher allocates no tensor and checks no argument (the bindings do); it may use its thread's scratch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace perfq {

// Runs body(begin, end, context) over parts of [0, count), each at least `grain` long, on the threads of torch.
struct Workers {
  int threads;
  void (*run)(int64_t count, int64_t grain, void (*body)(int64_t, int64_t, void*), void* context);
};

// At least `bytes` of memory of the calling thread, 64-byte aligned, kept until the thread ends. Two calls with one slot
// give the same memory. Throws std::bad_alloc.
enum Slot { kInputs, kPanel, kScores, kLayer, kSlots };
void* scratch(Slot slot, size_t bytes);

enum class Activation { kNone, kRelu, kTanh, kGelu, kGeluTanh };
// Of weights and activations.
enum class Bits { kW8A8, kW8A7, kW7A7 };
// How many products are added in an int16 before the sum is widened to int32, 0 where factors are widened first; and what the
// magnitudes of their weights may add up to: 258 * 127 = 32766.
constexpr int added_in_int16(Bits bits) { return bits == Bits::kW8A8 ? 0 : bits == Bits::kW8A7 ? 4 : 8; }
constexpr int kInt16Weights = 258;

// Panels of `columns` output features, [N / columns][K][columns] in float, zero-padded in N.
constexpr int kFloatPanel = 16;
// Panels of 32 output features of bfloat16, two along K side by side: [N / 32][(K + 1) / 2][32][2], zero-padded in both.
constexpr int kBf16Panel = 32;
// Panels of 32 output features; K is padded to a multiple of 8 or 16. See linear_int8.cpp for the order inside.
constexpr int kInt8Panel = 32;
constexpr int int8_depth(Bits bits) { return bits == Bits::kW7A7 ? 16 : 8; }
constexpr int kMaxHeadSize = 128;

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

struct Linear {
  const float* x;       // [rows, in]
  const float* weight;  // packed
  const float* bias;    // [out] or null
  float* y;             // [rows, out]
  int64_t rows, in, out;
  Activation activation;
};

struct LinearBf16 {
  const float* x;         // [rows, in], rounded to bfloat16 where it is packed
  const uint32_t* pairs;  // the packed weight, two bfloat16 each
  const float* bias;      // [out] or null
  float* y;               // [rows, out]
  int64_t rows, in, out;
  Activation activation;
};

struct LinearInt8 {
  const float* x;        // [rows, in], or null with x8
  const uint8_t* x8;     // [rows, in], or null
  const int8_t* weight;  // packed
  const float* weight_scale;    // [out]
  const int32_t* weight_sum;    // [out]
  const float* bias;            // [out] or null
  const float* input_scale;     // [1], or null: a row at a time
  const int32_t* input_zero;    // [1]
  const float* output_scale;    // [1], or null: y is float
  const int32_t* output_zero;   // [1]
  float* y;                     // [rows, out] or null
  uint8_t* y8;                  // [rows, out] or null
  int64_t rows, in, out;
  Bits bits;
  Activation activation;
};

struct Quantized {  // how a uint8 tensor is read or written: value = (q - zero) * scale, q within 0..levels
  float scale;
  int32_t zero;
  int32_t levels;
};

struct Attention {
  const float* qkv;    // [tokens, 3, heads, size], or null with qkv8
  const uint8_t* qkv8;
  float* out;          // [tokens, heads, size], or null with out8
  uint8_t* out8;
  Quantized in_as, out_as;
  const int32_t* cu_seqlens;  // [sequences + 1]
  int64_t sequences, heads, size;
  float scale;
  bool may_round;  // queries, keys, values and weights to bfloat16, where the set multiplies it by tiles
};

struct AddLayerNorm {
  const float *x, *residual, *linear_bias, *weight, *bias;  // linear_bias may be null
  float* y;
  const uint8_t *x8, *residual8;  // instead of x and residual, with y8
  uint8_t* y8;
  Quantized x_as, residual_as, y_as;
  int64_t rows, size;
  float eps;
};

struct LayerLinear {  // `weight`, `pairs` or, in INT8, the next three
  const float* weight;
  const uint32_t* pairs;
  const int8_t* weight8;
  const float* scale;
  const int32_t* sum;
  const float* bias;
};
struct LayerNorm {
  const float *weight, *bias;
  float eps;
};
struct Layer {
  const float* x;             // [tokens, heads * size]
  float* y;                   // [tokens, heads * size]
  const int32_t* cu_seqlens;  // [sequences + 1]
  int64_t sequences, heads, size, inner;
  LayerLinear qkv, out, up, down;
  LayerNorm attention_norm, output_norm;
  float scale;  // of attention
  bool int8;
  Bits bits;
  Activation activation;
};

struct EmbedLayerNorm {
  const int64_t *input_ids, *token_type_ids;  // [batch, seq]; the second may be null
  const int32_t* index;                       // [rows]
  const float *word, *position, *token_type, *weight, *bias;  // token_type may be null
  float* y;                                   // [rows, size]
  int64_t rows, seq, size, words, positions, types;
  float eps;
};

enum class Pooling { kCls, kMean, kMax };
struct Pool {
  const float* x;             // [tokens, size]
  const int32_t* cu_seqlens;  // [sequences + 1]
  float* y;                   // [sequences, size]
  int64_t sequences, size;
  Pooling how;
  bool normalize;
};

struct Restore {
  const float* x;        // [tokens, size]
  const int32_t* index;  // [tokens], ascending
  float* y;              // [places, size]
  int64_t tokens, places, size;
};

struct Rows {  // quantize and dequantize
  const float* x;
  uint8_t* q;
  const uint8_t* q_in;
  float* y;
  int64_t count;
  Quantized as;
};

struct Kernels {
  const char* isa;
  uint32_t needs;  // units of the processor, see processor.h
  void (*linear)(const Linear&, const Workers&);
  void (*linear_bf16)(const LinearBf16&, const Workers&);  // null where the set has no unit for it: nothing else serves
  void (*linear_int8)(const LinearInt8&, const Workers&);
  void (*attention)(const Attention&, const Workers&);
  void (*add_layernorm)(const AddLayerNorm&, const Workers&);
  void (*layer)(const Layer&, const Workers&);
  // The first token whose id, type or position is out of range, or -1.
  int64_t (*embed_layernorm)(const EmbedLayerNorm&, const Workers&);
  void (*pool)(const Pool&, const Workers&);
  void (*restore)(const Restore&, const Workers&);
  void (*quantize)(const Rows&, const Workers&);
  void (*dequantize)(const Rows&, const Workers&);
};

// By name, "auto" for the best this processor runs; null when it is unknown or the processor lacks it.
const Kernels* find_kernels(const char* isa);
extern const char* const kSetNames;  // what it may be given in this library, between commas

void pack_panels(const float* weight, int64_t out, int64_t in, float* packed);
void pack_panels_bf16(const uint16_t* weight, int64_t out, int64_t in, uint32_t* packed);
void pack_panels_int8(const int8_t* weight, int64_t out, int64_t in, Bits bits, int8_t* packed);

}  // namespace perfq
