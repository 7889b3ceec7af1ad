// What bindings.cpp calls: launchers with C names, plain pointers to device memory, and sizes. No torch, and no CUDA header.
//
// A launcher queues its kernels on `stream` and returns cudaSuccess (0) or the error of the launch; it allocates nothing, waits for
// nothing and reads no value of a tensor, so it can be captured in a CUDA graph. Sizes of zero launch nothing. All tensors begin at
// multiples of 16 bytes. Arguments have been checked.
//
// Float tensors of one call share a type: f32, f16 or bf16; sums are float. index and cu_seqlens are as in csrc/schema.cpp, and
// here may have a tail: rows behind cu_seqlens' last belong to no sequence, and their index is -1. embed_layernorm and attention
// make them zeros, and nothing takes them to another row; so one captured graph serves any number of tokens up to its own.
//
// The CPU's ops refuse by value what only the GPU knows here, and nobody waits for it. Such a value shows in the output as NaN:
// ids outside their table and places outside the batch in their row, and a mask of more tokens than were promised in all rows.
// That index rises, that cu_seqlens does and ends within the tokens, and that scales are positive, is believed.
#pragma once

#include <cstdint>

namespace perfq::cuda {

enum class Type : int32_t { kF32, kF16, kBF16 };
enum class Pooling : int32_t { kCls, kMean, kMax };
// As torch has them, in float: kGelu by erf, kGeluTanh by tanh.
enum class Activation : int32_t { kNone, kRelu, kTanh, kGelu, kGeluTanh };

// In place of a place in index: behind the last token; and everywhere, where the mask has more than `tokens`.
constexpr int32_t kNoPlace = -1, kSpoilt = -2;

struct PackTokens {
  const int64_t* mask;  // [batch, seq]
  int32_t* cu_seqlens;  // [batch + 1], none larger than `tokens`
  int32_t* index;       // [tokens]
  int64_t batch, seq, tokens;
};

struct Restore {
  const void* x;         // [tokens, size]
  const int32_t* index;  // [tokens]
  void* y;               // [places, size]; all of it is written
  int64_t tokens, places, size;
  Type type;
};

struct Pool {
  const void* x;              // [tokens, size]
  const int32_t* cu_seqlens;  // [sequences + 1]
  void* y;                    // [sequences, size]
  int64_t sequences, size;
  Pooling how;
  bool normalize;
  Type type;
};

struct EmbedLayerNorm {
  const int64_t *input_ids, *token_type_ids;  // [batch, seq]; the second may be null
  const int32_t* index;                       // [rows]
  const void *word, *position, *token_type, *weight, *bias;  // token_type may be null
  void* y;                                    // [rows, size]
  int64_t rows, places, seq, size, words, positions, types;   // places: batch * seq
  float eps;
  Type type;
};

// A row in bytes beside its float values: unsigned levels by its own range.
struct RowLevels {
  uint8_t* q;      // [rows, size], or null for none
  float* scale;    // [rows]
  int32_t* zero;   // [rows]
  int32_t levels;  // 255 or 127
};
// The same in f8: row = f8 * scale, scale = max |row| / 448.
struct RowF8 {
  void* q;       // [rows, size], or null for none
  float* scale;  // [rows]
};

struct AddLayerNorm {
  const void *x, *residual, *linear_bias, *weight, *bias;  // linear_bias may be null
  void* y;                // [rows, size], or with index [places, size]
  const int32_t* index;   // [rows], or null: row r goes to place index[r], and the other places become zeros
  RowLevels levels;
  RowF8 f8;
  int64_t rows, places, size;  // without index there are as many places as rows
  float eps;
  Type type;
};

// One scale and zero a tensor, on the device.
struct Levels {
  const float* scale;
  const int32_t* zero;
};

struct AddLayerNormInt8 {
  const uint8_t *x, *residual;
  uint8_t* y;
  const void *weight, *bias;
  Levels x_as, residual_as, y_as;
  int32_t levels;
  int64_t rows, size;
  float eps;
  Type type;  // of weight and bias
};

struct BiasActivation {  // x and y may be the same
  const void *x, *bias;  // [rows, size], [size] or null
  void* y;               // [rows, size], or null where only bytes are wanted
  RowLevels levels;
  RowF8 f8;
  int64_t rows, size;
  Activation how;
  Type type;
};

struct Quantize {  // by one scale a tensor
  const void* x;   // [count]
  uint8_t* q;      // [count]
  Levels as;
  int32_t levels;
  int64_t count;
  Type type;
};

struct Dequantize {
  const uint8_t* q;  // [count]
  float* y;          // [count]
  Levels as;
  int64_t count;
};

struct AbsMax {        // of every column of x, into `most`, which holds what was found so far (or zeros)
  const void* x;       // [rows, size]
  float* most;         // [size]; NaN where a column has one
  int64_t rows, size;
  Type type;
};

struct Attention {
  const void* qkv;            // [tokens, 3, heads, size]
  const void* bias;           // [3, heads, size], added to qkv, or null
  void* out;                  // [tokens, heads, size]
  const int32_t* cu_seqlens;  // [sequences + 1]
  int64_t tokens, sequences, heads, size;
  float scale;
  Type type;
};

struct AttentionInt8 {
  const uint8_t* qkv;
  uint8_t* out;
  Levels in_as, out_as;
  int32_t levels;
  const int32_t* cu_seqlens;
  int64_t tokens, sequences, heads, size;
  float scale;
};

// A row in levels, by its own range or, with `as`, by one scale: what linear_int8 makes of float values. A row that holds a value that
// is not finite has scale NaN.
struct QuantizeRows {
  const void* x;   // [rows, size]
  uint8_t* q;      // [rows, stride], zeros behind `size`
  float* scale;    // [rows]
  int32_t* zero;   // [rows]
  Levels as;       // null: a row's own
  int32_t levels;
  int64_t rows, size, stride;  // stride: a multiple of 16
  Type type;
};

// The outputs of one block of a product: kChosen leaves it to the launcher, which goes by the number of blocks.
enum class Tile : int32_t { kChosen, k128x128, k64x64, k32x32 };

// y = activation(x weight' + bias), on tensor cores: f16, and bf16 from compute capability 8.0 on.
struct Linear {
  const void* x;       // [rows, in] in `type`
  const void* weight;  // [out, in] in `type`
  const void* bias;    // [out] or null
  void* y;             // [rows, out]
  int64_t rows, in, out;  // in: a multiple of 8
  Activation how;
  Type type;
  Tile tile;
};

struct LinearInt8 {
  const uint8_t* x;             // [rows, in]
  const int8_t* weight;         // [out, in_padded], zeros behind `in`
  const float* input_scale;     // [rows] or [1]
  const int32_t* input_zero;    // [rows] or [1]
  bool per_row;
  const float* weight_scale;    // [out]
  const int32_t* weight_sum;    // [out]
  const void* bias;             // [out] in `type`, or null
  void* y;                      // [rows, out] in `type`, or null with q
  uint8_t* q;                   // [rows, out], or null
  Levels out_as;                // of q
  int32_t levels;
  int64_t rows, in, in_padded, out;  // in, in_padded: multiples of 16
  Activation how;
  Type type;
  Tile tile;
};

// The current GPU. capability: 75 for 7.5.
struct Processor {
  int32_t multiprocessors, capability;
};

extern "C" {
int perfq_cuda_pack_tokens(const PackTokens*, void* stream);
int perfq_cuda_restore(const Restore*, void* stream);
int perfq_cuda_pool(const Pool*, void* stream);
int perfq_cuda_embed_layernorm(const EmbedLayerNorm*, void* stream);
int perfq_cuda_add_layernorm(const AddLayerNorm*, void* stream);
int perfq_cuda_add_layernorm_int8(const AddLayerNormInt8*, void* stream);
int perfq_cuda_bias_activation(const BiasActivation*, void* stream);
int perfq_cuda_quantize(const Quantize*, void* stream);
int perfq_cuda_dequantize(const Dequantize*, void* stream);
int perfq_cuda_absmax(const AbsMax*, void* stream);
int perfq_cuda_attention(const Attention*, void* stream);
int perfq_cuda_attention_int8(const AttentionInt8*, void* stream);
int perfq_cuda_quantize_rows(const QuantizeRows*, void* stream);
int perfq_cuda_linear(const Linear*, void* stream);
int perfq_cuda_linear_int8(const LinearInt8*, void* stream);
// Asked of CUDA once a thread and device.
int perfq_cuda_processor(Processor*);
// What an error code says; of the emulation, what went wrong there.
const char* perfq_cuda_error(int code);
}

}  // namespace perfq::cuda
