// Long texts take time in proportion to their length, whatever they are.
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <random>
#include <string>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/unicode/utf8.h"
#include "tests/unit/engine/tokenizer/test_tokenizers.h"

namespace baton {
namespace {

constexpr size_t kShortBytes = 250'000;
constexpr size_t kLongBytes = 1'000'000;
// A quadratic step would make this 16. Some room for caches and other load on the machine.
constexpr double kMaxRatio = 6.0;
constexpr double kMaxLongSeconds = 20.0;  // generous: sanitizers, shared machines

std::string Repeat(const std::string& unit, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += unit;
  return text;
}

std::string RandomText(size_t bytes, const std::function<char32_t(std::mt19937&)>& next) {
  std::mt19937 random(11);
  std::string text;
  while (text.size() < bytes) AppendUtf8(next(random), text);
  return text;
}

std::string MakeText(const std::string& name, size_t bytes) {
  if (name == "one_word") {
    return RandomText(bytes, [](std::mt19937& r) { return 'a' + r() % 26; });
  }
  if (name == "one_letter") return Repeat("a", bytes);
  if (name == "spaces") return Repeat(" ", bytes);
  if (name == "newlines") return Repeat(" \n", bytes);
  if (name == "cjk") {
    return RandomText(bytes, [](std::mt19937& r) { return 0x4E00 + r() % 0x5000; });
  }
  if (name == "marks") return Repeat("\u0301\u0316", bytes);
  if (name == "near_special") return Repeat("<|im_star", bytes);
  if (name == "added") return Repeat("[left] <|im_end|>", bytes);
  return RandomText(bytes, [](std::mt19937& r) {
    return r() % 6 == 0 ? U' ' : static_cast<char32_t>(0x21 + r() % 0x250);
  });
}

double BestSeconds(const Tokenizer& tokenizer, const std::string& text) {
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    // Processor time: other load on the machine hardly counts.
    const std::clock_t begin = std::clock();
    const size_t count = tokenizer.Encode(text, true, true).size();
    const std::clock_t end = std::clock();
    EXPECT_GT(count, 0u);
    best = std::min(best, static_cast<double>(end - begin) / CLOCKS_PER_SEC);
  }
  return best;
}

class TokenizerTimeTest : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerTimeTest, FourTimesTheTextTakesAboutFourTimesAsLong) {
  const std::unique_ptr<Tokenizer> tokenizer = LoadGoldenTokenizer(GetParam());
  for (const char* name : {"one_word", "one_letter", "spaces", "newlines", "cjk", "marks",
                           "near_special", "added", "random"}) {
    // A run that another process disturbed is measured again.
    double ratio = 0.0;
    for (int attempt = 0; attempt < 4; ++attempt) {
      const double short_seconds = BestSeconds(*tokenizer, MakeText(name, kShortBytes));
      const double long_seconds = BestSeconds(*tokenizer, MakeText(name, kLongBytes));
      ASSERT_LT(long_seconds, kMaxLongSeconds) << name;
      ratio = long_seconds / std::max(short_seconds, 1e-3);
      RecordProperty(name, std::to_string(kLongBytes / 1e6 / long_seconds) + " MB/s");
      if (ratio < kMaxRatio) break;
    }
    EXPECT_LT(ratio, kMaxRatio) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerTimeTest,
                         testing::Values("llama3", "qwen2", "digits", "llama2", "mistral",
                                         "metaspace"),
                         [](const auto& kind) { return std::string(kind.param); });

}  // namespace
}  // namespace baton
