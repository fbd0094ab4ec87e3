// Smoke fuzzing of the tokenizer's and the chat template's parsers: whatever comes in, a status or
// a result comes out, in bounded time. A failure prints its seed.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/unicode/utf8.h"
#include "tests/fuzz/mutate.h"
#include "tests/support/source_dir.h"

namespace baton {
namespace {

const std::string kGolden = SourceDir() + "/tests/golden/";

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

const char* const kKinds[] = {"llama3", "qwen2",   "digits",   "split",
                              "llama2", "mistral", "metaspace"};

// The file without most of its vocabulary, so that mutations hit the rest of it too.
std::string SmallTokenizerJson(const std::string& kind) {
  std::string text = ReadFile(kGolden + "tokenizer/" + kind + "/tokenizer.json");
  const size_t merges = text.find("\"merges\":[");
  EXPECT_NE(merges, std::string::npos);
  return text.substr(0, merges) + "\"merges\":[]}}";
}

TEST(TokenizerFuzzTest, MutatedTokenizerFilesLoadOrFailCleanly) {
  const std::string folder = testing::TempDir() + "/tokenizer_fuzz";
  std::filesystem::create_directories(folder);
  const std::vector<std::string> dictionary = {"null",
                                               "true",
                                               "-1",
                                               "1e9",
                                               "4194304",
                                               "{}",
                                               "[]",
                                               "\"\"",
                                               "\"▁\"",
                                               "\\u0000",
                                               "\\ud800",
                                               "\"ByteLevel\"",
                                               "\"Metaspace\"",
                                               "\"Split\"",
                                               "\"Replace\"",
                                               "\"Sequence\"",
                                               "\"Regex\":",
                                               "\"(?:a|b)*c\"",
                                               "\"[\"",
                                               "[[[[[[",
                                               "\"type\":",
                                               "99999999999999999999",
                                               "\"<0x41>\""};
  int loaded_count = 0;
  for (unsigned seed = 0; seed < 600; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const std::string kind = kKinds[seed % std::size(kKinds)];
    // Half of the edits go to the pipeline at the file's begin, where the structure is.
    std::string text = SmallTokenizerJson(kind);
    const size_t vocab = text.find("\"model\"");
    if (seed % 2 == 0) {
      text = Mutate(text.substr(0, vocab), dictionary, random) + text.substr(vocab);
    } else {
      text = Mutate(std::move(text), dictionary, random);
    }
    std::ofstream(folder + "/tokenizer.json", std::ios::binary) << text;
    const auto tokenizer = Tokenizer::Load(folder);
    if (!tokenizer.ok()) {
      EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument)
          << tokenizer.status();
      continue;
    }
    ++loaded_count;
    const std::vector<TokenId> ids = (*tokenizer)->Encode("a 1 é\xFF <s>  北\n", true, true);
    EXPECT_TRUE(IsValidUtf8((*tokenizer)->Decode(ids, false)));
  }
  EXPECT_GT(loaded_count, 5);  // otherwise only the JSON parser is tested
}

TEST(TokenizerFuzzTest, AnyBytesEncodeToKnownTokensAndDecodeToUtf8) {
  const std::vector<std::string> dictionary = {"<s>",
                                               "<|im_end|>",
                                               "[both]",
                                               "  ",
                                               "\r\n",
                                               "\u0301\u0316",
                                               "\xF0\x9F\x98",
                                               "\xED\xA0\x80",
                                               "▁",
                                               "\u180E",
                                               "'LL",
                                               "１２",
                                               "👩🏿‍🚀",
                                               std::string(300, 'a'),
                                               std::string(40, ' '),
                                               std::string("\0", 1)};
  for (const char* kind : kKinds) {
    const auto tokenizer = Tokenizer::Load(kGolden + "tokenizer/" + kind);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (unsigned seed = 0; seed < 400; ++seed) {
      SCOPED_TRACE(std::string(kind) + " seed " + std::to_string(seed));
      std::mt19937 random(seed);
      std::string text = "The river it's 123 北京 é";
      for (int i = 0; i < 4; ++i) text = Mutate(std::move(text), dictionary, random);
      for (const bool parse_special : {false, true}) {
        const std::vector<TokenId> ids = (*tokenizer)->Encode(text, true, parse_special);
        for (const TokenId id : ids) ASSERT_FALSE((*tokenizer)->TokenPiece(id).empty()) << id;
        ASSERT_TRUE(IsValidUtf8((*tokenizer)->Decode(ids, parse_special)));
      }
    }
  }
}

std::vector<std::string> ReadTemplates() {
  std::vector<std::string> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(kGolden + "chat_template/templates")) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());  // the folder's order differs between machines
  std::vector<std::string> templates;
  for (const std::string& path : paths) templates.push_back(ReadFile(path));
  return templates;
}

constexpr char kContext[] =
    R"({"messages": [{"role": "system", "content": "Be brief."},
                     {"role": "user", "content": "<think>a</think> b é"},
                     {"role": "assistant", "content": null, "tool_calls": [{"id": "abcdefghi",
                      "function": {"name": "f", "arguments": {"x": [1, 2.5, true, null]}}}]},
                     {"role": "tool", "content": "3", "tool_call_id": "abcdefghi"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>",
        "current_time_unix_s": 1717761845})";

TEST(TokenizerFuzzTest, MutatedTemplatesRenderOrFailCleanly) {
  const std::vector<std::string> templates = ReadTemplates();
  ASSERT_GT(templates.size(), 10u);
  const std::vector<std::string> dictionary = {"{{",
                                               "}}",
                                               "{%",
                                               "%}",
                                               "{#",
                                               "#}",
                                               "-",
                                               "{% for x in messages %}",
                                               "{% endfor %}",
                                               "{% if ",
                                               "{% endif %}",
                                               "| tojson",
                                               "|map('upper')",
                                               "[::-1]",
                                               "[1:",
                                               " is defined",
                                               "not ",
                                               "(",
                                               ")",
                                               "[",
                                               "]",
                                               "{",
                                               "}",
                                               "'",
                                               "\"",
                                               "\\",
                                               "loop.previtem",
                                               "namespace()",
                                               "* 1000000",
                                               "~",
                                               "**",
                                               "range(100000)",
                                               "{% macro m() %}",
                                               "{% endmacro %}",
                                               "{% set x %}",
                                               "{% raw %}",
                                               " in ",
                                               "messages",
                                               ".items()",
                                               ".split('')",
                                               "|join",
                                               "|sort",
                                               "\xFF",
                                               "\n"};
  int rendered = 0;
  for (unsigned seed = 0; seed < 4000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const std::string source = Mutate(templates[seed % templates.size()], dictionary, random);
    const auto parsed = ChatTemplate::Parse(source);
    if (!parsed.ok()) {
      ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << parsed.status();
      continue;
    }
    const auto text = (*parsed)->Render(kContext);
    if (!text.ok()) {
      ASSERT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << text.status();
      continue;
    }
    ++rendered;
    ASSERT_TRUE(IsValidUtf8(*text));
  }
  EXPECT_GT(rendered, 100);
}

TEST(TokenizerFuzzTest, MutatedContextsRenderOrFailCleanly) {
  const std::vector<std::string> sources = ReadTemplates();
  std::vector<std::unique_ptr<ChatTemplate>> templates;
  for (const std::string& source : sources) {
    auto parsed = ChatTemplate::Parse(source);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    templates.push_back(*std::move(parsed));
  }
  const std::vector<std::string> dictionary = {"null",
                                               "{}",
                                               "[]",
                                               "\"\"",
                                               "-1",
                                               "1e308",
                                               "1.5",
                                               "true",
                                               "{\"role\":\"user\"},",
                                               "[[[[[[[",
                                               "\\u0000",
                                               "\\ud83d",
                                               "99999999999999999999",
                                               "\"items\":",
                                               "\"content\":",
                                               ",",
                                               ":",
                                               "\xFF"};
  int rendered = 0;
  for (unsigned seed = 0; seed < 3000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto text =
        templates[seed % templates.size()]->Render(Mutate(kContext, dictionary, random));
    if (!text.ok()) {
      ASSERT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << text.status();
      continue;
    }
    ++rendered;
    ASSERT_TRUE(IsValidUtf8(*text));
  }
  EXPECT_GT(rendered, 100);
}

}  // namespace
}  // namespace baton
