// Configurations of tiny models with random weights for tests.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "common/check.h"

namespace baton {

struct TinyModel {
  const char* name;
  const char* config;
};

// Sizes that are no multiple of a panel, a vector or a tile; k above one share of the GEMM.
inline constexpr TinyModel kTinyModels[] = {
    {"llama_gqa5_dim64", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 72,
      "intermediate_size": 2200, "num_hidden_layers": 2, "num_attention_heads": 10,
      "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 301,
      "max_position_embeddings": 512, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}})"},
    {"qwen3_dim40", R"({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 62,
      "intermediate_size": 90, "num_hidden_layers": 2, "num_attention_heads": 3,
      "num_key_value_heads": 3, "head_dim": 40, "vocab_size": 77,
      "max_position_embeddings": 512, "tie_word_embeddings": true, "eos_token_id": [5, 3, 5]})"},
    {"qwen2_window", R"({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 64,
      "intermediate_size": 100, "num_hidden_layers": 3, "num_attention_heads": 4,
      "num_key_value_heads": 1, "vocab_size": 130, "max_position_embeddings": 512,
      "use_sliding_window": true, "sliding_window": 37, "max_window_layers": 1})"},
    {"mistral_dim256", R"({"architectures": ["MistralForCausalLM"], "hidden_size": 48,
      "intermediate_size": 66, "num_hidden_layers": 1, "num_attention_heads": 2,
      "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 64,
      "max_position_embeddings": 512, "sliding_window": 70})"},
};

inline std::vector<std::string> TinyModelNames() {
  std::vector<std::string> names;
  for (const TinyModel& model : kTinyModels) names.emplace_back(model.name);
  return names;
}

inline std::string TinyModelConfig(const std::string& name) {
  const auto* found = std::find_if(std::begin(kTinyModels), std::end(kTinyModels),
                                   [&](const TinyModel& model) { return name == model.name; });
  BATON_CHECK(found != std::end(kTinyModels)) << name;
  return found->config;
}

// Writes `config` to a file of this process and returns "dummy:FILE".
inline std::string DummyPath(const std::string& name, const std::string& config) {
  const std::filesystem::path path = std::filesystem::temp_directory_path() /
                                     ("baton_" + name + "_" + std::to_string(getpid()) + ".json");
  std::ofstream(path) << config;
  return "dummy:" + path.string();
}

inline std::string TinyModelPath(const std::string& name) {
  return DummyPath(name, TinyModelConfig(name));
}

}  // namespace baton
