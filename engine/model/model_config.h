// The architecture of a model, from Hugging Face's config.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"

namespace baton {

enum class RopeType { kDefault, kLinear, kLlama3 };

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000.0;
  double factor = 1.0;  // kLinear, kLlama3
  // kLlama3
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int32_t original_max_positions = 8192;
};

// One decoder of the Llama line: its members differ only in these switches.
struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM", "Qwen2ForCausalLM", …
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_layers = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t vocab_size = 0;
  int32_t max_positions = 0;
  float rms_norm_eps = 1e-6f;
  bool tied_embeddings = false;
  bool qkv_bias = false;
  bool output_bias = false;  // of attention's output projection
  bool mlp_bias = false;
  bool qk_norm = false;
  std::vector<int32_t> windows;  // [num_layers]: sliding window in tokens, 0 for none
  RopeConfig rope;
  std::vector<TokenId> eos_tokens;  // ascending, without repeats

  int32_t QSize() const { return num_heads * head_dim; }
  int32_t KvSize() const { return num_kv_heads * head_dim; }
  int64_t NumParameters() const;
  // Every field that affects logits, as text: part of the model's fingerprint.
  std::string Canonical() const;
};

// `where` is put in front of errors: the file's path. INVALID_ARGUMENT: a field is missing or out
// of bounds. UNIMPLEMENTED: an architecture or variant that Baton does not run.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, std::string_view where);

// Takes the EOS tokens of generation_config.json, if it names any, instead of config.json's.
absl::Status ApplyGenerationConfig(std::string_view json, std::string_view where,
                                   ModelConfig* config);

// [head_dim / 2] f32, step by step as transformers computes them.
std::vector<float> InverseFrequencies(const RopeConfig& rope, int32_t head_dim);

}  // namespace baton
