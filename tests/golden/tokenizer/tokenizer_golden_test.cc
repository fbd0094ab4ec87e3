// What the `tokenizers` package does with the same files and texts: make_goldens.py wrote it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/unicode/utf8.h"
#include "nlohmann/json.hpp"
#include "tests/support/source_dir.h"

namespace baton {
namespace {

using nlohmann::json;
using testing::ElementsAreArray;

const std::string kFolder = SourceDir() + "/tests/golden/tokenizer/";

json ReadJson(const std::string& name) {
  std::ifstream in(kFolder + name);
  EXPECT_TRUE(in.good()) << name;
  return json::parse(in);
}

std::vector<std::string> ReadInputs() {
  std::vector<std::string> inputs;
  for (const json& hex : ReadJson("inputs.json")) {
    const auto text = hex.get<std::string>();
    std::string& bytes = inputs.emplace_back();
    for (size_t i = 0; i < text.size(); i += 2) {
      bytes.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
    }
  }
  return inputs;
}

class TokenizerGoldenTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Tokenizer>> loaded = Tokenizer::Load(kFolder + GetParam());
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    tokenizer_ = *std::move(loaded);
    cases_ = ReadJson(std::string(GetParam()) + "/cases.json");
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  json cases_;
};

TEST_P(TokenizerGoldenTest, EncodesEveryHardTextAsTheReferenceDoes) {
  const std::vector<std::string> inputs = ReadInputs();
  ASSERT_EQ(inputs.size(), cases_["encode"].size());
  ASSERT_GT(inputs.size(), 70u);
  for (size_t i = 0; i < inputs.size(); ++i) {
    SCOPED_TRACE("input " + std::to_string(i) + ": " + inputs[i]);
    const json& expected = cases_["encode"][i];
    const auto ids = expected["ids"].get<std::vector<TokenId>>();
    EXPECT_THAT(tokenizer_->Encode(inputs[i], false, true), ElementsAreArray(ids));
    EXPECT_THAT(tokenizer_->Encode(inputs[i], true, true),
                ElementsAreArray(expected["with_special"].get<std::vector<TokenId>>()));
    EXPECT_THAT(tokenizer_->Encode(inputs[i], false, false),
                ElementsAreArray(expected.value("special_as_text", ids)));
  }
}

TEST_P(TokenizerGoldenTest, DecodesWhatWasEncodedAsTheReferenceDoes) {
  const std::vector<std::string> inputs = ReadInputs();
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::string repaired;
    const std::string text(RepairUtf8(inputs[i], repaired));
    SCOPED_TRACE("input " + std::to_string(i) + ": " + text);
    const json& expected = cases_["encode"][i];
    const auto ids = expected["with_special"].get<std::vector<TokenId>>();
    EXPECT_EQ(tokenizer_->Decode(ids, false), expected.value("decoded", text));
    EXPECT_EQ(tokenizer_->Decode(ids, true), expected.value("decoded_skip", text));
  }
}

TEST_P(TokenizerGoldenTest, DecodesRandomIdsAsTheReferenceDoes) {
  ASSERT_EQ(cases_["decode"].size(), 60u);
  for (const json& expected : cases_["decode"]) {
    const auto ids = expected["ids"].get<std::vector<TokenId>>();
    SCOPED_TRACE(expected["ids"].dump());
    EXPECT_EQ(tokenizer_->Decode(ids, false), expected["text"].get<std::string>());
    EXPECT_EQ(tokenizer_->Decode(ids, true), expected["skip"].get<std::string>());
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerGoldenTest,
                         testing::Values("llama3", "qwen2", "gpt2", "digits", "split", "llama2",
                                         "mistral", "metaspace", "metaspace_never"),
                         [](const auto& kind) { return std::string(kind.param); });

}  // namespace
}  // namespace baton
