#include "engine/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace baton {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

nlohmann::json Llama() {
  return nlohmann::json::parse(R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 2048})");
}

absl::StatusOr<ModelConfig> Parse(const nlohmann::json& json) {
  return ParseModelConfig(json.dump(), "dir/config.json");
}

// The error for `json`, which must name the file and `field`.
void ExpectError(const nlohmann::json& json, const std::string& field,
                 absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  const absl::Status status = Parse(json).status();
  EXPECT_EQ(status.code(), code) << field << ": " << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("dir/config.json: "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(field));
}

TEST(ModelConfigTest, FillsDefaultsOfLlama) {
  const ModelConfig config = *Parse(Llama());
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_THAT(config.windows, ElementsAre(0, 0, 0));
  nlohmann::json json = Llama();
  json.erase("num_key_value_heads");
  json["sliding_window"] = 16;  // not a field of Llama's
  EXPECT_EQ(Parse(json)->num_kv_heads, 4);
  EXPECT_THAT(Parse(json)->windows, ElementsAre(0, 0, 0));
}

TEST(ModelConfigTest, FamiliesDifferInBiasesNormsAndWindows) {
  nlohmann::json json = Llama();
  json["attention_bias"] = true;
  json["mlp_bias"] = true;
  EXPECT_TRUE(Parse(json)->qkv_bias && Parse(json)->output_bias && Parse(json)->mlp_bias);
  json["architectures"] = {"Qwen2ForCausalLM"};
  EXPECT_TRUE(Parse(json)->qkv_bias);
  EXPECT_FALSE(Parse(json)->output_bias || Parse(json)->mlp_bias || Parse(json)->qk_norm);
  json["architectures"] = {"Qwen3ForCausalLM"};
  EXPECT_TRUE(Parse(json)->qkv_bias && Parse(json)->output_bias && Parse(json)->qk_norm);
  json["attention_bias"] = false;
  EXPECT_FALSE(Parse(json)->qkv_bias);
  json["architectures"] = {"MistralForCausalLM"};
  EXPECT_FALSE(Parse(json)->qkv_bias || Parse(json)->qk_norm);
}

TEST(ModelConfigTest, WindowsApplyToTheLayersThatTheConfigNames) {
  nlohmann::json json = Llama();
  json["architectures"] = {"MistralForCausalLM"};
  json["sliding_window"] = 16;
  EXPECT_THAT(Parse(json)->windows, ElementsAre(16, 16, 16));
  json["sliding_window"] = nullptr;
  EXPECT_THAT(Parse(json)->windows, ElementsAre(0, 0, 0));
  json["architectures"] = {"Qwen2ForCausalLM"};
  json["sliding_window"] = 16;
  json["max_window_layers"] = 1;
  EXPECT_THAT(Parse(json)->windows, ElementsAre(0, 0, 0));
  json["use_sliding_window"] = true;
  EXPECT_THAT(Parse(json)->windows, ElementsAre(0, 16, 16));
  json["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_THAT(Parse(json)->windows, ElementsAre(16, 0, 16));
  json["layer_types"] = {"sliding_attention"};
  ExpectError(json, "layer_types");
  json["layer_types"] = {"sliding_attention", "full_attention", "chunked_attention"};
  ExpectError(json, "layer_types", absl::StatusCode::kUnimplemented);
}

TEST(ModelConfigTest, RefusesBadSizesNamingTheField) {
  for (const char* field : {"hidden_size", "intermediate_size", "num_hidden_layers",
                            "num_attention_heads", "vocab_size", "max_position_embeddings"}) {
    nlohmann::json json = Llama();
    json.erase(field);
    ExpectError(json, std::string(field) + " is missing");
    for (const nlohmann::json& bad :
         {nlohmann::json(0), nlohmann::json(-4), nlohmann::json(1.5), nlohmann::json("64"),
          nlohmann::json(uint64_t{1} << 63), nlohmann::json(int64_t{1} << 40),
          nlohmann::json::array({64}), nlohmann::json(true)}) {
      json[field] = bad;
      ExpectError(json, field);
    }
  }
  nlohmann::json json = Llama();
  json["num_key_value_heads"] = 3;
  ExpectError(json, "num_key_value_heads is 3; must divide");
  json = Llama();
  json["head_dim"] = 20;
  ExpectError(json, "head_dim is 20", absl::StatusCode::kUnimplemented);
  json = Llama();
  json["hidden_size"] = 65;
  ExpectError(json, "hidden_size is 65; must be even");
  json = Llama();
  json["num_attention_heads"] = 6;
  ExpectError(json, "head_dim is missing");
}

TEST(ModelConfigTest, RefusesWhatItDoesNotRun) {
  const auto unsupported = absl::StatusCode::kUnimplemented;
  nlohmann::json json = Llama();
  json["architectures"] = {"GPT2LMHeadModel"};
  ExpectError(json, "architectures is GPT2LMHeadModel; supported: LlamaForCausalLM", unsupported);
  json["architectures"] = nlohmann::json::array();
  ExpectError(json, "architectures");
  json = Llama();
  json["hidden_act"] = "gelu";
  ExpectError(json, "hidden_act is gelu", unsupported);
  json = Llama();
  json["quantization_config"] = {{"bits", 4}};
  ExpectError(json, "quantization_config", unsupported);
  json = Llama();
  json["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}};
  ExpectError(json, "rope_type is yarn; supported: default, linear, llama3", unsupported);
  json["rope_scaling"] = {{"type", "dynamic"}, {"factor", 4.0}};
  ExpectError(json, "type is dynamic", unsupported);
  json = Llama();
  json["partial_rotary_factor"] = 0.5;
  ExpectError(json, "partial_rotary_factor", unsupported);
}

TEST(ModelConfigTest, ReadsRopeInBothLayouts) {
  nlohmann::json scaling = {{"rope_type", "llama3"},
                            {"factor", 8.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 8192}};
  nlohmann::json old_layout = Llama();
  old_layout["rope_theta"] = 500000.0;
  old_layout["rope_scaling"] = scaling;
  nlohmann::json new_layout = Llama();
  scaling["rope_theta"] = 500000.0;
  new_layout["rope_parameters"] = scaling;
  EXPECT_EQ(Parse(old_layout)->Canonical(), Parse(new_layout)->Canonical());
  EXPECT_EQ(Parse(old_layout)->rope.theta, 500000.0);
  EXPECT_EQ(Parse(old_layout)->rope.type, RopeType::kLlama3);
  EXPECT_NE(Parse(old_layout)->Canonical(), Parse(Llama())->Canonical());
  old_layout["rope_scaling"].erase("low_freq_factor");
  ExpectError(old_layout, "rope_scaling: low_freq_factor is missing");
  old_layout["rope_scaling"]["low_freq_factor"] = 4.0;
  ExpectError(old_layout, "high_freq_factor must be above");
}

// Values computed by transformers 5.23.0: ROPE_INIT_FUNCTIONS["llama3"], head_dim 16, theta 1e4,
// factor 4, low 1, high 4, original 32.
TEST(ModelConfigTest, Llama3FrequenciesAreTransformers) {
  const RopeConfig rope = {.type = RopeType::kLlama3,
                           .theta = 10000.0,
                           .factor = 4.0,
                           .low_freq_factor = 1.0,
                           .high_freq_factor = 4.0,
                           .original_max_positions = 32};
  const std::vector<float> frequencies = InverseFrequencies(rope, 16);
  const std::vector<float> expected = {
      1.0f,           0.127323955f,    0.0250000004f,   0.00790569466f,
      0.00249999994f, 0.000790569466f, 0.000250000012f, 7.90569466e-05f};
  ASSERT_EQ(frequencies.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(frequencies[i], expected[i], 2e-7f * expected[i]) << i;
  }
}

TEST(ModelConfigTest, EosTokensComeFromTheGenerationConfigFirst) {
  nlohmann::json json = Llama();
  json["eos_token_id"] = {9, 2, 9};
  ModelConfig config = *Parse(json);
  EXPECT_THAT(config.eos_tokens, ElementsAre(2, 9));
  ASSERT_TRUE(ApplyGenerationConfig(R"({"temperature": 0.6})", "g.json", &config).ok());
  EXPECT_THAT(config.eos_tokens, ElementsAre(2, 9));
  ASSERT_TRUE(ApplyGenerationConfig(R"({"eos_token_id": 7})", "g.json", &config).ok());
  EXPECT_THAT(config.eos_tokens, ElementsAre(7));
  const absl::Status status = ApplyGenerationConfig(R"({"eos_token_id": 100})", "g.json", &config);
  EXPECT_THAT(std::string(status.message()), HasSubstr("g.json: eos_token_id must hold tokens"));
  for (const nlohmann::json& bad : {nlohmann::json("2"), nlohmann::json(-1), nlohmann::json(1e30),
                                    nlohmann::json(uint64_t{1} << 63), nlohmann::json({{2}})}) {
    json["eos_token_id"] = bad;
    ExpectError(json, "eos_token_id");
  }
}

TEST(ModelConfigTest, RefusesWhatIsNotStrictJson) {
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("nul"), std::string("{\"a\": 1,}"),
        std::string("{\"a\": 1} x"), std::string("{\"a\": 1}\0x", 10),
        std::string("{\"a\": \"\xff\"}")}) {
    EXPECT_THAT(std::string(ParseModelConfig(text, "c.json").status().message()),
                HasSubstr("c.json: not a valid JSON object"))
        << text;
  }
  EXPECT_THAT(std::string(ParseModelConfig(R"({"a": 1, "a": 2})", "c.json").status().message()),
              HasSubstr("key \"a\" appears twice"));
  EXPECT_THAT(
      std::string(
          ParseModelConfig("{\"a\": " + std::string(100000, '['), "c.json").status().message()),
      HasSubstr("nested deeper"));
}

}  // namespace
}  // namespace baton
