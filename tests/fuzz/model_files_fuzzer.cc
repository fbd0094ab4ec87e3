// Model directories: config.json up to the first zero byte, model.safetensors behind it (without
// one: config.json alone). An accepted configuration is safe to compute with; a model that loads
// runs, and gives a logit for each word of its vocabulary.
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/check.h"
#include "engine/kv/kv_cache.h"
#include "engine/model/model.h"
#include "engine/model/model_config.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/temp_model.h"

namespace baton {
namespace {

void CheckConfig(const ModelConfig& config) {
  BATON_CHECK(config.num_layers > 0 && config.vocab_size > 0 && config.max_positions > 0);
  BATON_CHECK(config.hidden_size > 0 && config.intermediate_size > 0);
  BATON_CHECK(config.windows.size() == static_cast<size_t>(config.num_layers));
  BATON_CHECK(config.num_kv_heads > 0 && config.num_heads % config.num_kv_heads == 0)
      << config.num_heads << ' ' << config.num_kv_heads;
  BATON_CHECK(config.head_dim > 0 && config.head_dim % 8 == 0) << config.head_dim;
  BATON_CHECK(int64_t{config.num_heads} * config.head_dim == config.QSize());
  for (const int32_t window : config.windows) BATON_CHECK(window >= 0) << window;
  for (const TokenId token : config.eos_tokens) {
    BATON_CHECK(token >= 0 && token < config.vocab_size) << token;
  }
  for (const float frequency : InverseFrequencies(config.rope, config.head_dim)) {
    BATON_CHECK(std::isfinite(frequency) && frequency >= 0) << frequency;
  }
  BATON_CHECK(!config.Canonical().empty());
}

void CheckRuns(Model& model) {
  const ModelInfo& info = model.info();
  constexpr int32_t kBlocks = 1;
  const auto cache = KvCache::Create(model.kv_layout(), kBlocks);
  BATON_CHECK(cache.ok()) << cache.status();
  const std::vector<TokenId> tokens(static_cast<size_t>(std::min(2, info.max_model_len)),
                                    info.vocab_size - 1);
  const std::vector<BlockId> table = {BlockId(0)};
  const ForwardSequence sequence{.tokens = tokens, .block_table = table};
  Logits logits;
  BATON_CHECK_OK(model.Forward({&sequence, 1}, (*cache)->region(), nullptr, &logits));
  BATON_CHECK(logits.num_rows == static_cast<int32_t>(tokens.size())) << logits.num_rows;
  BATON_CHECK(logits.vocab_size == info.vocab_size) << logits.vocab_size;
  const size_t numbers = tokens.size() * static_cast<size_t>(info.vocab_size);
  BATON_CHECK(logits.values.size() >= numbers) << logits.values.size();
}

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  static const TempModel directory;
  const std::string_view text = TextOf(data, size);
  const size_t zero = std::min(text.find('\0'), text.size());
  const auto config = ParseModelConfig(text.substr(0, zero), "config.json");
  if (!config.ok()) {
    BATON_CHECK(config.status().message().find("config.json") != absl::string_view::npos)
        << config.status();
    return 0;
  }
  CheckConfig(*config);
  if (zero == text.size()) return 0;
  directory.Write("config.json", text.substr(0, zero));
  directory.Write("model.safetensors", text.substr(zero + 1));
  ModelOptions options;
  options.path = directory.path();
  const auto model = Model::Load(options, nullptr);
  if (model.ok()) {
    CheckRuns(**model);
  } else {
    BATON_CHECK(!model.status().message().empty());
  }
  return 0;
}
