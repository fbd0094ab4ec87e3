// Models of make_goldens.py against what transformers computed for them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/kernels/bf16.h"
#include "engine/kernels/isa.h"
#include "engine/model/model.h"
#include "tests/support/source_dir.h"
#include "tests/unit/engine/model/paged_runner.h"

namespace baton {
namespace {

const std::filesystem::path kGoldens = SourceDir() + "/tests/golden/model";

template <typename T>
std::vector<T> ReadArray(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(static_cast<void*>(values.data()), bytes.data(), values.size() * sizeof(T));
  return values;
}

// How far two runs' logits lie apart.
struct Distance {
  double max = 0.0;
  double rms = 0.0;
};

Distance Between(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  Distance distance;
  double squares = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double{a[i]} - double{b[i]});
    // A NaN must not pass as "not larger".
    if (!(difference <= distance.max)) distance.max = difference;
    squares += difference * difference;
  }
  distance.rms = std::sqrt(squares / static_cast<double>(a.size()));
  return distance;
}

struct Golden {
  explicit Golden(const std::filesystem::path& path) : folder(path) {
    std::ifstream file(folder / "golden.json");
    numbers = nlohmann::json::parse(file);
    tokens = ReadArray<TokenId>(folder / "tokens.i32");
    logits = ReadArray<float>(folder / "logits.f32");
    for (const Bf16 value : ReadArray<Bf16>(folder / "logits.bf16")) {
      bf16_logits.push_back(ToFloat(value));
    }
  }
  std::filesystem::path folder;
  nlohmann::json numbers;
  std::vector<TokenId> tokens;
  std::vector<float> logits;       // [positions, vocab] of transformers in f32
  std::vector<float> bf16_logits;  // [positions, vocab] of transformers in bf16
};

using Parameter = std::tuple<std::string, Isa>;

class GoldenModelTest : public testing::TestWithParam<Parameter> {
 protected:
  void SetUp() override {
    if (std::get<Isa>(GetParam()) > *BestIsa()) GTEST_SKIP() << "this CPU lacks the instructions";
  }
  std::unique_ptr<Model> Load(bool f32) {
    ModelOptions options;
    options.path = golden_.folder.string();
    options.f32 = f32;
    options.isa = IsaName(std::get<Isa>(GetParam()));
    auto model = Model::Load(options, nullptr);
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? *std::move(model) : nullptr;
  }
  std::vector<float> AllLogits(Model* model) {
    PagedRunner runner(model, 64, 1);
    PagedRunner::Sequence sequence;
    return runner.Step({{&sequence, golden_.tokens}}).values;
  }
  Golden golden_{kGoldens / std::get<std::string>(GetParam())};
};

TEST_P(GoldenModelTest, F32LogitsEqualTransformersAtEveryPosition) {
  const auto model = Load(/*f32=*/true);
  ASSERT_NE(model, nullptr);
  const Distance distance = Between(AllLogits(model.get()), golden_.logits);
  EXPECT_LT(distance.max, 2e-4);
}

TEST_P(GoldenModelTest, F32GreedyContinuationIsTransformers) {
  const auto model = Load(/*f32=*/true);
  ASSERT_NE(model, nullptr);
  const auto prompt = golden_.numbers["prompt"].get<size_t>();
  PagedRunner runner(model.get(), 64, 2);
  PagedRunner::Sequence sequence;
  std::vector<TokenId> tokens(golden_.tokens.begin(), golden_.tokens.begin() + prompt);
  const Logits* logits =
      &runner.Step({{&sequence, tokens, static_cast<int32_t>(tokens.size()) - 1}});
  while (tokens.size() < golden_.tokens.size()) {
    tokens.push_back(ArgMax(logits->Row(0)));
    logits = &runner.Step({{&sequence, std::span(&tokens.back(), 1)}});
  }
  EXPECT_EQ(tokens, golden_.tokens);
}

// transformers rounds to bf16 after every op; we only the inputs of matrix products, weights and
// KV: our distance from the exact logits must not exceed its own (a quarter more for one element).
TEST_P(GoldenModelTest, Bf16LogitsAreAsCloseToExactAsTransformers) {
  const auto model = Load(/*f32=*/false);
  ASSERT_NE(model, nullptr);
  const std::vector<float> logits = AllLogits(model.get());
  const Distance reference = Between(golden_.bf16_logits, golden_.logits);
  const Distance distance = Between(logits, golden_.logits);
  EXPECT_LE(distance.rms, reference.rms);
  EXPECT_LE(distance.max, 1.25 * reference.max);
  // Not by being something else altogether.
  EXPECT_LE(Between(logits, golden_.bf16_logits).rms, 1.5 * reference.rms);
  RecordProperty("rms", std::to_string(distance.rms / reference.rms));
}

TEST_P(GoldenModelTest, InfoIsWhatTheFilesSay) {
  const auto model = Load(/*f32=*/false);
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->info().name, std::get<std::string>(GetParam()));
  EXPECT_EQ(model->info().max_model_len, 256);
  EXPECT_EQ(model->info().vocab_size * golden_.tokens.size(), golden_.logits.size());
  EXPECT_EQ(model->info().kernels, IsaName(std::get<Isa>(GetParam())));
  if (std::filesystem::exists(golden_.folder / "generation_config.json")) {
    EXPECT_EQ(model->info().eos_tokens, (std::vector<TokenId>{3, 5}));
  } else {
    EXPECT_TRUE(model->info().eos_tokens.empty());
  }
}

std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kGoldens)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, GoldenModelTest,
                         testing::Combine(testing::ValuesIn(GoldenNames()),
                                          testing::Values(Isa::kAvx2, Isa::kAvx512,
                                                          Isa::kAvx512Bf16)),
                         [](const testing::TestParamInfo<Parameter>& tested) {
                           std::string name = std::get<std::string>(tested.param) + "_" +
                                              std::string(IsaName(std::get<Isa>(tested.param)));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(GoldenModelFiles, AreAllThere) { EXPECT_EQ(GoldenNames().size(), 9u); }

}  // namespace
}  // namespace baton
