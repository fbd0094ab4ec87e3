// Hostile model files: seeded mutations of good ones must give an error or a model, never a crash.
// Run under asan-ubsan to see more than crashes.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "engine/model/model.h"
#include "engine/model/model_config.h"
#include "engine/model/safetensors.h"
#include "tests/unit/engine/model/model_files.h"
#include "tests/unit/engine/model/tiny_models.h"

namespace baton {
namespace {

constexpr uint64_t kSeed = 77;

// A mutator of text formats: bytes, ranges, and tokens that parsers find hard.
class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::string Mutate(std::string text) {
    if (Below(2) == 0) {  // stay valid JSON, so that what reads it is reached
      ReplaceNumber(Below(text.size()), &text);
      return text;
    }
    for (uint64_t n = 1 + Below(4); n > 0; --n) text = MutateOnce(std::move(text));
    return text;
  }
  uint64_t Below(uint64_t limit) { return random_() % limit; }

 private:
  std::string MutateOnce(std::string text) {
    if (text.empty()) return "{";
    static const std::vector<std::string> kTokens = {"0",
                                                     "-1",
                                                     "1e999",
                                                     "1e-999",
                                                     "9223372036854775807",
                                                     "18446744073709551615",
                                                     "18446744073709551616",
                                                     "4294967296",
                                                     "null",
                                                     "true",
                                                     "[]",
                                                     "{}",
                                                     "[[[[",
                                                     "\"",
                                                     "\\u0000",
                                                     "\xff\xfe",
                                                     "\"BF16\"",
                                                     "\"F64\"",
                                                     ",",
                                                     ":",
                                                     "}",
                                                     "0.5",
                                                     "-0",
                                                     "NaN",
                                                     "\"\"",
                                                     "[0,0]"};
    const size_t at = Below(text.size());
    switch (Below(6)) {
      case 0:
        text[at] = static_cast<char>(random_());
        break;
      case 1:
        text.erase(at, 1 + Below(20));
        break;
      case 2:
        text.insert(at, kTokens[Below(kTokens.size())]);
        break;
      case 3:
        text.insert(at, text.substr(Below(text.size()), 1 + Below(40)));
        break;
      case 4:
        ReplaceNumber(at, &text);
        break;
      default:
        text.resize(at);
        break;
    }
    return text;
  }

  // The first number behind `at` becomes a token.
  void ReplaceNumber(size_t at, std::string* text) {
    static const std::vector<std::string> kNumbers = {"0",
                                                      "1",
                                                      "2",
                                                      "-1",
                                                      "3",
                                                      "7",
                                                      "8",
                                                      "1000000",
                                                      "4294967295",
                                                      "9223372036854775807",
                                                      "18446744073709551615",
                                                      "1.5",
                                                      "1e308",
                                                      "[1]",
                                                      "null",
                                                      "\"1\""};
    const size_t begin = text->find_first_of("0123456789", at);
    if (begin == std::string::npos) return;
    const size_t end = text->find_first_not_of("0123456789.", begin);
    text->replace(begin, (end == std::string::npos ? text->size() : end) - begin,
                  kNumbers[Below(kNumbers.size())]);
  }

  std::mt19937_64 random_;
};

TEST(ModelFilesFuzz, MutatedConfigsParseOrFailCleanly) {
  int parsed = 0;
  int refused = 0;
  for (uint64_t i = 0; i < 6000; ++i) {
    Mutator mutator(kSeed + i);
    const auto names = TinyModelNames();
    const std::string text = mutator.Mutate(TinyModelConfig(names[i % names.size()]));
    const auto config = ParseModelConfig(text, "config.json");
    if (!config.ok()) {
      ++refused;
      EXPECT_NE(config.status().message().find("config.json"), absl::string_view::npos)
          << "seed " << kSeed + i << ": " << config.status();
      continue;
    }
    ++parsed;
    // What was accepted must be safe to compute with.
    ASSERT_EQ(config->windows.size(), static_cast<size_t>(config->num_layers)) << kSeed + i;
    ASSERT_EQ(config->num_heads % config->num_kv_heads, 0) << kSeed + i;
    ASSERT_EQ(config->head_dim % 8, 0) << kSeed + i;
    for (const float frequency : InverseFrequencies(config->rope, config->head_dim)) {
      ASSERT_TRUE(std::isfinite(frequency)) << "seed " << kSeed + i << ": " << text;
    }
  }
  // Both ways are taken often.
  EXPECT_GT(parsed, 500);
  EXPECT_GT(refused, 500);
}

TEST(ModelFilesFuzz, MutatedSafetensorsHeadersParseOrFailCleanly) {
  const std::string good = SafetensorsOf(SmallestTensors());
  uint64_t good_length = 0;
  std::memcpy(&good_length, good.data(), sizeof(good_length));
  const std::string data = good.substr(8 + good_length);
  int refused = 0;
  for (uint64_t i = 0; i < 6000; ++i) {
    Mutator mutator(kSeed + i);
    std::string header = mutator.Mutate(good.substr(8, good_length));
    std::string bytes = SafetensorsBytes(header, 0) + data;
    if (mutator.Below(8) == 0) bytes[mutator.Below(8)] = static_cast<char>(mutator.Below(256));
    const auto views = ParseSafetensors(std::as_bytes(std::span(bytes)), "m.safetensors");
    if (!views.ok()) {
      ++refused;
      continue;
    }
    // What was accepted lies within the file, without overlap.
    const std::byte* next = nullptr;
    for (const TensorView& view : *views) {
      ASSERT_TRUE(next == nullptr || view.data.data() == next) << "seed " << kSeed + i;
      next = view.data.data() + view.data.size();
    }
    ASSERT_TRUE(next == nullptr ||
                next == reinterpret_cast<const std::byte*>(bytes.data() + bytes.size()))
        << "seed " << kSeed + i;
  }
  EXPECT_GT(refused, 1000);
}

TEST(ModelFilesFuzz, MutatedDirectoriesLoadOrFailCleanly) {
  const TempDirectory directory;
  const std::string good = SafetensorsOf(SmallestTensors());
  int loaded = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    Mutator mutator(kSeed + i);
    directory.Write("config.json",
                    i % 2 == 0 ? mutator.Mutate(kSmallestConfig) : std::string(kSmallestConfig));
    directory.Write("model.safetensors", i % 2 == 0 ? good : mutator.Mutate(good));
    ModelOptions options;
    options.path = directory.path();
    const auto model = Model::Load(options, nullptr);
    loaded += model.ok() ? 1 : 0;
  }
  EXPECT_GT(loaded, 5);
}

}  // namespace
}  // namespace baton
