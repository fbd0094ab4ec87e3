// Shared by the tests of models on a CUDA device, emulated or not.
#pragma once

#include <gtest/gtest.h>

#include <cuda_runtime.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/cuda/cuda_kv_cache.h"
#include "engine/model/cuda/cuda_model.h"
#include "tests/unit/engine/model/paged_runner.h"
#include "tests/unit/engine/model/tiny_models.h"

namespace baton {

// Sizes that are multiples of 8 and of no tile.
inline constexpr TinyModel kCudaTinyModels[] = {
    {"llama_gqa4_dim64", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 72,
      "intermediate_size": 136, "num_hidden_layers": 2, "num_attention_heads": 8,
      "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 152,
      "max_position_embeddings": 512, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}})"},
    {"qwen3_tied_dim128", R"({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 56,
      "intermediate_size": 88, "num_hidden_layers": 2, "num_attention_heads": 3,
      "num_key_value_heads": 3, "head_dim": 128, "vocab_size": 80,
      "max_position_embeddings": 512, "tie_word_embeddings": true})"},
    {"qwen2_bias_window", R"({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 128,
      "intermediate_size": 104, "num_hidden_layers": 3, "num_attention_heads": 2,
      "num_key_value_heads": 1, "vocab_size": 136, "max_position_embeddings": 512,
      "use_sliding_window": true, "sliding_window": 37, "max_window_layers": 1})"},
    {"llama_all_biases", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64,
      "intermediate_size": 80, "num_hidden_layers": 1, "num_attention_heads": 1,
      "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 64, "attention_bias": true,
      "mlp_bias": true, "max_position_embeddings": 512})"},
};

inline bool HasCudaDevice() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

// Small enough for the emulation, which is slow.
inline CudaModelOptions SmallLimits() {
  return {
      .max_batch_tokens = 256, .max_sequences = 16, .max_logit_rows = 256, .tune_products = false};
}

inline std::unique_ptr<Model> LoadOnCuda(const ModelOptions& options,
                                         const CudaModelOptions& cuda = SmallLimits()) {
  auto model = LoadCudaModel(options, cuda, nullptr);
  BATON_CHECK(model.ok()) << model.status();
  return *std::move(model);
}

// Filled with large finite numbers: what an earlier owner left in a block must never show.
inline std::unique_ptr<CudaKvCache> MakeCudaKvCache(const Model& model, int32_t num_blocks) {
  auto cache = CudaKvCache::Create(0, model.kv_layout(), num_blocks);
  BATON_CHECK(cache.ok()) << cache.status();
  const auto bytes = static_cast<size_t>(num_blocks * model.kv_layout().BlockBytes());
  for (std::byte* layer : (*cache)->region().layer_base) {
    BATON_CHECK(cudaMemsetAsync(layer, 0x47, bytes, nullptr) == cudaSuccess);
  }
  BATON_CHECK(cudaDeviceSynchronize() == cudaSuccess);
  return *std::move(cache);
}

// Filled with random bytes.
inline std::unique_ptr<CudaKvCache> MakeRandomCudaKvCache(const KvLayout& layout,
                                                          int32_t num_blocks, uint64_t seed,
                                                          int32_t device = 0) {
  auto cache = CudaKvCache::Create(device, layout, num_blocks);
  BATON_CHECK(cache.ok()) << cache.status();
  std::mt19937_64 random(seed);
  for (std::byte* layer : (*cache)->region().layer_base) {
    std::vector<std::byte> bytes(static_cast<size_t>(num_blocks * layout.BlockBytes()));
    for (std::byte& byte : bytes) byte = std::byte(random());
    BATON_CHECK(cudaMemcpy(layer, bytes.data(), bytes.size(), cudaMemcpyHostToDevice) ==
                cudaSuccess);
  }
  return *std::move(cache);
}

// Computes the prompts together, in chunks of random sizes up to `max_chunk`. `step` takes the
// chunks of a step; `expect` each row that came of it: prompt, position, logits.
template <typename Step, typename Expect>
void RunInRandomChunks(const std::vector<std::vector<TokenId>>& prompts, size_t max_chunk,
                       std::mt19937_64& random, Step step, Expect expect) {
  std::vector<PagedRunner::Sequence> sequences(prompts.size());
  while (true) {
    std::vector<PagedRunner::Chunk> chunks;
    std::vector<std::pair<size_t, size_t>> rows;  // prompt and position
    for (size_t i = 0; i < prompts.size(); ++i) {
      const auto at = static_cast<size_t>(sequences[i].position);
      if (at == prompts[i].size()) continue;
      const size_t size = std::min<size_t>(1 + random() % max_chunk, prompts[i].size() - at);
      for (size_t row = 0; row < size; ++row) rows.emplace_back(i, at + row);
      chunks.push_back({&sequences[i], std::span(prompts[i]).subspan(at, size)});
    }
    if (chunks.empty()) return;
    const Logits& logits = step(chunks);
    for (size_t row = 0; row < rows.size(); ++row) {
      expect(rows[row].first, rows[row].second, logits.Row(static_cast<int32_t>(row)));
    }
  }
}

inline std::vector<std::byte> ReadLayer(const KvRegion& kv, int32_t layer) {
  std::vector<std::byte> bytes(static_cast<size_t>(kv.num_blocks * kv.layout.BlockBytes()));
  BATON_CHECK(cudaMemcpy(bytes.data(), kv.layer_base[static_cast<size_t>(layer)], bytes.size(),
                         cudaMemcpyDeviceToHost) == cudaSuccess);
  return bytes;
}

// The root of the mean square of a - b over that of b.
inline double RelativeRms(std::span<const float> a, std::span<const float> b) {
  BATON_CHECK(a.size() == b.size()) << a.size() << b.size();
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    size += double{b[i]} * b[i];
  }
  return std::sqrt(difference / size);
}

inline std::vector<TokenId> RandomTokens(size_t count, const Model& model,
                                         std::mt19937_64& random) {
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) {
    token = static_cast<TokenId>(random() % static_cast<uint64_t>(model.info().vocab_size));
  }
  return tokens;
}

}  // namespace baton
