// Loading whole model directories: what is refused, and what identifies a model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/kernels/isa.h"
#include "tests/unit/engine/model/model_files.h"
#include "tests/unit/engine/model/paged_runner.h"
#include "tests/unit/engine/model/tiny_models.h"

namespace baton {
namespace {

using testing::HasSubstr;

class ModelLoadTest : public testing::Test {
 protected:
  ModelLoadTest() {
    directory_.Write("config.json", kSmallestConfig);
    WriteTensors(SmallestTensors());
    options_.path = directory_.path();
  }
  void WriteTensors(const std::vector<TestTensor>& tensors) {
    directory_.Write("model.safetensors", SafetensorsOf(tensors));
  }
  absl::StatusOr<std::unique_ptr<Model>> Load() { return Model::Load(options_, nullptr); }
  void ExpectError(const std::string& what) {
    const absl::Status status = Load().status();
    EXPECT_FALSE(status.ok()) << what;
    EXPECT_THAT(std::string(status.message()), HasSubstr(what));
  }
  TempDirectory directory_;
  ModelOptions options_;
};

TEST_F(ModelLoadTest, LoadsTheSmallestModelAndDescribesIt) {
  std::vector<int64_t> progress;
  int64_t total = 0;
  options_.served_name = "small";
  auto model = Model::Load(options_, [&](int64_t done, int64_t all) {
    progress.push_back(done);
    total = all;
  });
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.name, "small");
  EXPECT_EQ(info.num_parameters, 2 * 40 + 3 * 8 + 4 * 64 + 3 * 48);
  EXPECT_GE(info.weight_bytes, 2 * info.num_parameters);
  EXPECT_EQ(info.max_model_len, 32);
  EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
  EXPECT_EQ(progress.back(), total);
  EXPECT_LT(progress.front(), total);
  const KvLayout layout = {.num_layers = 1, .num_kv_heads = 1, .head_dim = 8, .block_size = 16};
  EXPECT_EQ((*model)->kv_layout(), layout);
}

// Of what is told while they load, and of the config's sizes.
TEST(ModelParametersTest, AreAllThatTheConfigNames) {
  std::vector<TinyModel> models(std::begin(kTinyModels), std::end(kTinyModels));
  models.push_back({"all_biases", R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 24,
      "intermediate_size": 36, "num_hidden_layers": 2, "num_attention_heads": 2,
      "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 40, "max_position_embeddings": 64,
      "attention_bias": true, "mlp_bias": true})"});
  for (const TinyModel& tiny : models) {
    SCOPED_TRACE(tiny.name);
    const auto config = ParseModelConfig(tiny.config, tiny.name);
    ASSERT_TRUE(config.ok()) << config.status();
    const ModelOptions options{.path = DummyPath(tiny.name, tiny.config)};
    std::vector<std::pair<int64_t, int64_t>> progress;
    const auto model = Model::Load(options, [&](int64_t done, int64_t total) {
      EXPECT_LE(done, total);
      progress.emplace_back(done, total);
    });
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->info().num_parameters, config->NumParameters());
    ASSERT_GT(progress.size(), 2u);
    EXPECT_EQ(progress.end()[-2], progress.end()[-1]);  // the last tensor, and the end
    EXPECT_LT(progress.end()[-3].first, progress.end()[-1].first);
  }
}

TEST_F(ModelLoadTest, NameIsTheDirectorys) {
  const std::string name = std::filesystem::path(directory_.path()).filename().string();
  EXPECT_EQ((*Load())->info().name, name);
  options_.path += "/";
  EXPECT_EQ((*Load())->info().name, name);
}

TEST_F(ModelLoadTest, NamesTensorsThatAreMissingExtraOrMisshapen) {
  for (size_t i = 0; i < SmallestTensors().size(); ++i) {
    std::vector<TestTensor> tensors = SmallestTensors();
    const std::string name = tensors[i].name;
    tensors[i].shape.back() += 1;
    WriteTensors(tensors);
    ExpectError("tensor " + name + " has shape [");
    tensors.erase(tensors.begin() + static_cast<int64_t>(i));
    WriteTensors(tensors);
    ExpectError("tensor " + name + " is missing");
  }
  std::vector<TestTensor> tensors = SmallestTensors();
  tensors.push_back({"model.layers.0.self_attn.q_norm.weight", {8}});
  WriteTensors(tensors);
  ExpectError("tensor model.layers.0.self_attn.q_norm.weight does not belong");
  tensors.back() = {"model.layers.0.self_attn.rotary_emb.inv_freq", {4}, "F32"};
  WriteTensors(tensors);
  EXPECT_TRUE(Load().ok());
  tensors = SmallestTensors();
  tensors[2].dtype = "I16";
  WriteTensors(tensors);
  ExpectError("tensor model.layers.0.self_attn.q_proj.weight has dtype I16");
}

TEST_F(ModelLoadTest, SaysWhichFileIsMissing) {
  std::filesystem::remove(directory_.path() + "/model.safetensors");
  ExpectError("has neither model.safetensors nor model.safetensors.index.json");
  std::filesystem::remove(directory_.path() + "/config.json");
  ExpectError(directory_.path() + "/config.json: cannot open");
  options_.path = "dummy:/nowhere/c.json";
  ExpectError("/nowhere/c.json: cannot open");
}

TEST_F(ModelLoadTest, ShardsMustHoldWhatTheIndexSays) {
  std::vector<TestTensor> tensors = SmallestTensors();
  const TestTensor last = tensors.back();
  tensors.pop_back();
  std::filesystem::remove(directory_.path() + "/model.safetensors");
  directory_.Write("a.safetensors", SafetensorsOf(tensors));
  directory_.Write("b.safetensors", SafetensorsOf({last}));
  nlohmann::json map;
  for (const TestTensor& tensor : tensors) map[tensor.name] = "a.safetensors";
  map[last.name] = "b.safetensors";
  const auto write_index = [&](const nlohmann::json& weight_map) {
    directory_.Write("model.safetensors.index.json",
                     nlohmann::json{{"weight_map", weight_map}}.dump());
  };
  write_index(map);
  EXPECT_TRUE(Load().ok()) << Load().status();
  nlohmann::json changed = map;
  changed[last.name] = "a.safetensors";
  write_index(changed);
  ExpectError("a.safetensors: tensor lm_head.weight is missing, though");
  changed = map;
  changed.erase(tensors.front().name);
  write_index(changed);
  ExpectError("tensor model.embed_tokens.weight is not in model.safetensors.index.json");
  for (const nlohmann::json& bad : {nlohmann::json("../b.safetensors"), nlohmann::json("/b"),
                                    nlohmann::json(".."), nlohmann::json(""), nlohmann::json(3)}) {
    changed[last.name] = bad;
    write_index(changed);
    ExpectError("must be a plain file name");
  }
  changed = map;
  changed[last.name] = "c.safetensors";
  write_index(changed);
  ExpectError("c.safetensors: cannot open");
  write_index(nlohmann::json::array());
  ExpectError("weight_map must be an object");
}

TEST_F(ModelLoadTest, RefusesAModelThatTheMachineCannotHold) {
  nlohmann::json config = nlohmann::json::parse(kSmallestConfig);
  config["num_hidden_layers"] = 4096;
  config["hidden_size"] = 1 << 20;
  config["head_dim"] = 256;
  config["num_attention_heads"] = 4096;
  config["num_key_value_heads"] = 4096;
  config["intermediate_size"] = 1 << 20;
  config["vocab_size"] = 1 << 22;
  directory_.Write("config.json", config.dump());
  options_.dummy_weights = true;
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kResourceExhausted);
  ExpectError("MiB; the machine has");
}

TEST_F(ModelLoadTest, RefusesBadOptions) {
  options_.block_size = 12;
  ExpectError("block_size is 12");
  options_.block_size = 16;
  options_.isa = "neon";
  ExpectError("isa neon is unknown");
  options_.isa = "";
  options_.weights = "int3";
  ExpectError("weights int3 is unknown");
  options_.weights = "";
  options_.kv_dtype = "fp8";
  ExpectError("kv_dtype fp8 is unknown");
  options_.kv_dtype = "";
  options_.weights = "";
  options_.num_threads = 0;
  ExpectError("num_threads is 0");
}

TEST_F(ModelLoadTest, FingerprintFollowsConfigWeightsAndDtypeOnly) {
  const uint64_t fingerprint = (*Load())->info().fingerprint;
  EXPECT_EQ((*Load())->info().fingerprint, fingerprint);
  options_.num_threads = 2;
  options_.isa = "avx2";
  options_.served_name = "other";
  EXPECT_EQ((*Load())->info().fingerprint, fingerprint);
  options_.f32 = true;
  EXPECT_NE((*Load())->info().fingerprint, fingerprint);
  options_.f32 = false;
  options_.weights = "int8";
  const uint64_t int8_fingerprint = (*Load())->info().fingerprint;
  EXPECT_NE(int8_fingerprint, fingerprint);
  EXPECT_EQ((*Load())->info().weight_dtype, "int8");
  options_.weights = "int4";
  EXPECT_NE((*Load())->info().fingerprint, fingerprint);
  EXPECT_NE((*Load())->info().fingerprint, int8_fingerprint);
  options_.weights = "";
  options_.kv_dtype = "int8";
  const auto int8_kv = *Load();
  EXPECT_NE(int8_kv->info().fingerprint, fingerprint);
  EXPECT_NE(int8_kv->info().fingerprint, int8_fingerprint);
  EXPECT_EQ(int8_kv->kv_layout().dtype, KvDtype::kInt8);
  options_.kv_dtype = "";
  // One bit of the last tensor.
  std::string bytes = SafetensorsOf(SmallestTensors());
  bytes.back() ^= 1;
  directory_.Write("model.safetensors", bytes);
  EXPECT_NE((*Load())->info().fingerprint, fingerprint);
  WriteTensors(SmallestTensors());
  nlohmann::json config = nlohmann::json::parse(kSmallestConfig);
  config["rope_theta"] = 20000.0;
  directory_.Write("config.json", config.dump());
  EXPECT_NE((*Load())->info().fingerprint, fingerprint);
}

TEST_F(ModelLoadTest, DummyWeightsAreTheSameEverywhere) {
  ModelOptions dummy;
  dummy.path = "dummy:" + directory_.path() + "/config.json";
  const uint64_t fingerprint = (*Model::Load(dummy, nullptr))->info().fingerprint;
  EXPECT_NE(fingerprint, (*Load())->info().fingerprint);
  // Fixed for ever: workers of different versions and machines must agree.
  EXPECT_EQ(fingerprint, 14277753418498439168u);
  options_.dummy_weights = true;
  options_.num_threads = 2;
  std::filesystem::remove(directory_.path() + "/model.safetensors");
  auto model = *Load();
  EXPECT_EQ(model->info().fingerprint, fingerprint);
  PagedRunner runner(model.get(), 4, 1);
  PagedRunner::Sequence sequence;
  const std::vector<TokenId> tokens = {0, 1, 2};
  const Logits logits = runner.Step({{&sequence, tokens}});
  EXPECT_NEAR(logits.Row(2)[0], 0.663f, 0.02f);
}

}  // namespace
}  // namespace baton
