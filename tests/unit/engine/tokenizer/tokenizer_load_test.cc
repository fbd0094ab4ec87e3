// Tokenizer::Load on good, odd and hostile files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "engine/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/unit/engine/tokenizer/test_tokenizers.h"

namespace baton {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class TokenizerLoadTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/tokenizer_load_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
    document_ = json::parse(R"({
      "version": "1.0", "truncation": null, "padding": null,
      "added_tokens": [{"id": 4, "content": "<s>", "single_word": false, "lstrip": false,
                        "rstrip": false, "normalized": false, "special": true}],
      "normalizer": {"type": "NFC"},
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
      "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
      "decoder": {"type": "ByteLevel"},
      "model": {"type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false,
                "byte_fallback": false, "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3},
                "merges": ["a b"]}})");
  }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> Load() {
    Write("tokenizer.json", document_.dump());
    return Tokenizer::Load(folder_);
  }
  // The error of the document after `change`, which must name the file.
  std::string ErrorAfter(const std::function<void(json&)>& change) {
    const json before = document_;
    change(document_);
    const absl::Status status = Load().status();
    document_ = before;
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("tokenizer.json"));
    return std::string(status.message());
  }

  std::string folder_;
  json document_;
};

TEST_F(TokenizerLoadTest, ASmallFileWorks) {
  Write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "eos_token": null})");
  const auto tokenizer = Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT((*tokenizer)->Encode("ab a", true, true), ElementsAre(4, 2, 3, 0));
  EXPECT_THAT((*tokenizer)->Encode("<s>ab", false, true), ElementsAre(4, 2));
  EXPECT_EQ((*tokenizer)->vocab_size(), 5);
  EXPECT_EQ((*tokenizer)->bos_token(), 4);
  EXPECT_EQ((*tokenizer)->eos_token(), -1);
  EXPECT_EQ((*tokenizer)->TokenPiece(3), "Ġ");
  EXPECT_EQ((*tokenizer)->TokenBytes(3), " ");
  EXPECT_EQ((*tokenizer)->TokenBytes(-1), "");
  EXPECT_EQ((*tokenizer)->TokenBytes(1'000'000), "");
  EXPECT_TRUE((*tokenizer)->IsSpecial(4));
  EXPECT_FALSE((*tokenizer)->IsSpecial(3));
  EXPECT_FALSE((*tokenizer)->IsSpecial(99));
}

TEST_F(TokenizerLoadTest, AMissingFileIsNotFound) {
  EXPECT_EQ(Tokenizer::Load("/nowhere").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TokenizerLoadTest, EachErrorNamesItsField) {
  const auto expect = [this](const std::string& field, const std::function<void(json&)>& change) {
    EXPECT_THAT(ErrorAfter(change), HasSubstr(field));
  };
  expect("model.type", [](json& d) { d["model"]["type"] = "Unigram"; });
  expect("model", [](json& d) { d.erase("model"); });
  expect("model.vocab", [](json& d) { d["model"]["vocab"] = json::array(); });
  expect("model.vocab", [](json& d) { d["model"]["vocab"]["a"] = -1; });
  expect("model.vocab", [](json& d) { d["model"]["vocab"]["a"] = 1.5; });
  expect("model.vocab", [](json& d) { d["model"]["vocab"]["a"] = 4'000'000'000u; });
  expect("model.vocab", [](json& d) { d["model"]["vocab"]["a"] = 1; });  // twice
  expect("model.merges", [](json& d) { d["model"]["merges"] = {"ab"}; });
  expect("model.merges", [](json& d) { d["model"]["merges"] = {{"a", "b", "c"}}; });
  expect("model.merges[0]", [](json& d) { d["model"]["merges"] = {"a z"}; });
  expect("model.unk_token", [](json& d) { d["model"]["unk_token"] = "<no>"; });
  expect("model.dropout", [](json& d) { d["model"]["dropout"] = 0.1; });
  expect("model.continuing_subword_prefix",
         [](json& d) { d["model"]["continuing_subword_prefix"] = "##"; });
  expect("model.byte_fallback", [](json& d) { d["model"]["byte_fallback"] = true; });
  expect("model.byte_fallback", [](json& d) { d["model"]["byte_fallback"] = "yes"; });
  expect("model.extra", [](json& d) { d["model"]["extra"] = 1; });
  expect("normalizer: type \"NFKC\"", [](json& d) { d["normalizer"]["type"] = "NFKC"; });
  expect("normalizer.lower", [](json& d) { d["normalizer"]["lower"] = true; });
  expect("pre_tokenizer: type \"Bert\"", [](json& d) { d["pre_tokenizer"]["type"] = "Bert"; });
  expect("pre_tokenizer.pretokenizers[1]", [](json& d) {
    d["pre_tokenizer"] = {{"type", "Sequence"},
                          {"pretokenizers", {d["pre_tokenizer"], d["pre_tokenizer"]}}};
  });
  expect("pre_tokenizer: the escape \"\\w\"", [](json& d) {
    d["pre_tokenizer"] = {{"type", "Split"},
                          {"pattern", {{"Regex", "\\w"}}},
                          {"behavior", "Isolated"},
                          {"invert", false}};
  });
  expect("post_processor: type", [](json& d) { d["post_processor"]["type"] = "Roberta"; });
  expect("post_processor.single", [](json& d) { d["post_processor"]["single"] = json::array(); });
  expect("post_processor.special_tokens",
         [](json& d) { d["post_processor"]["special_tokens"] = json::object(); });
  expect("post_processor: token id 77",
         [](json& d) { d["post_processor"]["special_tokens"]["<s>"]["ids"] = {77}; });
  expect("decoder", [](json& d) { d["decoder"] = nullptr; });
  expect("decoder: type \"WordPiece\"", [](json& d) { d["decoder"]["type"] = "WordPiece"; });
  expect("decoder.decoders[0]", [](json& d) {
    d["decoder"] = json::parse(R"({"type": "Sequence", "decoders": [
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}, {"type": "Fuse"}]})");
  });
  expect("added_tokens[0].id", [](json& d) { d["added_tokens"][0]["id"] = "4"; });
  expect("added_tokens[0]", [](json& d) { d["added_tokens"][0]["content"] = ""; });
  expect("added_tokens", [](json& d) { d["added_tokens"][0]["id"] = 0; });         // "a" has it
  expect("added_tokens", [](json& d) { d["added_tokens"][0]["content"] = "a"; });  // id 0
  expect("extra", [](json& d) { d["extra"] = 1; });
}

TEST_F(TokenizerLoadTest, SpecialTokensOutsideTheVocabularyAreAnError) {
  Write("tokenizer_config.json", R"({"eos_token": "</s>"})");
  EXPECT_THAT(std::string(Load().status().message()), HasSubstr("eos_token"));
}

TEST_F(TokenizerLoadTest, TextThatIsNotJsonOrNestsTooDeepIsAnError) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"),
        std::string("{\"model\": \"\xFF\"}"), std::string(1'000'000, '['),
        document_.dump().substr(0, 200), document_.dump() + '\0'}) {
    Write("tokenizer.json", text);
    EXPECT_EQ(Tokenizer::Load(folder_).status().code(), absl::StatusCode::kInvalidArgument)
        << text.substr(0, 40);
  }
}

TEST(TokenizerTest, ThreadsShareOne) {
  const std::unique_ptr<Tokenizer> tokenizer = LoadGoldenTokenizer("qwen2");
  const std::string text = "The river carries e\u0301 北京 123 <|im_end|>";
  const std::vector<TokenId> expected = tokenizer->Encode(text, true, true);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (size_t i = 0; i < wrong.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int j = 0; j < 200; ++j) {
        wrong[i] += tokenizer->Encode(text, true, true) != expected;
        wrong[i] += tokenizer->Decode(expected, false).empty();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, testing::Each(0));
}

}  // namespace
}  // namespace baton
