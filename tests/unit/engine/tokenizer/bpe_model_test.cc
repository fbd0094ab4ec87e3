#include "engine/tokenizer/bpe_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace baton {
namespace {

using testing::ElementsAre;

// The definition, word for word: again and again the best merge, leftmost first.
std::vector<TokenId> NaiveEncode(const BpeSpec& spec, const std::string& text) {
  std::map<std::string, TokenId> ids(spec.vocab.begin(), spec.vocab.end());
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t i = 0; i < spec.merges.size(); ++i) ranks[spec.merges[i]] = i;
  std::vector<std::string> symbols;
  for (const char c : text) symbols.emplace_back(1, c);
  while (true) {
    size_t best_rank = spec.merges.size();
    size_t best_at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto rank = ranks.find({symbols[i], symbols[i + 1]});
      if (rank != ranks.end() && rank->second < best_rank) {
        best_rank = rank->second;
        best_at = i;
      }
    }
    if (best_rank == spec.merges.size()) break;
    symbols[best_at] += symbols[best_at + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best_at) + 1);
  }
  std::vector<TokenId> out;
  for (const std::string& symbol : symbols) out.push_back(ids.at(symbol));
  return out;
}

// A random vocabulary over a few letters, with merges of merges.
BpeSpec RandomSpec(std::mt19937& random) {
  BpeSpec spec;
  const std::string letters = "abcd";
  for (const char c : letters) spec.vocab.emplace_back(std::string(1, c), spec.vocab.size());
  while (spec.merges.size() < 25) {
    const std::string left = spec.vocab[random() % spec.vocab.size()].first;
    const std::string right = spec.vocab[random() % spec.vocab.size()].first;
    const std::pair<std::string, std::string> merge{left, right};
    if (std::find(spec.merges.begin(), spec.merges.end(), merge) != spec.merges.end()) continue;
    spec.merges.push_back(merge);
    const bool known = std::any_of(spec.vocab.begin(), spec.vocab.end(),
                                   [&](const auto& entry) { return entry.first == left + right; });
    if (!known) spec.vocab.emplace_back(left + right, spec.vocab.size());
  }
  return spec;
}

std::vector<TokenId> Encode(const BpeModel& model, const std::string& text) {
  std::vector<TokenId> out;
  BpeModel::Encoder encoder(model, out);
  encoder.Add(text);
  return out;
}

TEST(BpeModelTest, AgreesWithTheDefinitionForRandomVocabulariesAndWordsOfAllLengths) {
  for (unsigned seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const BpeSpec spec = RandomSpec(random);
    const auto bytes = BpeModel::Create(spec, true);
    const auto characters = BpeModel::Create(spec, false);
    ASSERT_TRUE(bytes.ok() && characters.ok());
    for (int i = 0; i < 40; ++i) {
      std::string text;
      const size_t length = random() % (i < 30 ? 20 : 400);
      for (size_t j = 0; j < length; ++j) text.push_back("abcd"[random() % 4]);
      SCOPED_TRACE(text);
      const std::vector<TokenId> expected = NaiveEncode(spec, text);
      EXPECT_EQ(Encode(**bytes, text), expected);
      EXPECT_EQ(Encode(**characters, text), expected);
    }
  }
}

TEST(BpeModelTest, ARepeatedWordGetsTheSameIds) {
  BpeSpec spec;
  spec.vocab = {{"a", 0}, {"b", 1}, {"ab", 2}};
  spec.merges = {{"a", "b"}};
  const auto model = BpeModel::Create(spec, true);
  ASSERT_TRUE(model.ok());
  std::vector<TokenId> out;
  BpeModel::Encoder encoder(**model, out);
  const std::string word = "aab";
  for (int i = 0; i < 3; ++i) encoder.Add(word);
  EXPECT_THAT(out, ElementsAre(0, 2, 0, 2, 0, 2));
}

TEST(BpeModelTest, UnknownCharactersAreFusedOrNot) {
  BpeSpec spec;
  spec.vocab = {{"<unk>", 0}, {"a", 1}};
  spec.unk_token = "<unk>";
  EXPECT_THAT(Encode(**BpeModel::Create(spec, false), "xéa界"), ElementsAre(0, 0, 1, 0));
  spec.fuse_unk = true;
  EXPECT_THAT(Encode(**BpeModel::Create(spec, false), "xéa界"), ElementsAre(0, 1, 0));
  spec.unk_token.clear();
  EXPECT_THAT(Encode(**BpeModel::Create(spec, false), "xéa界"), ElementsAre(1));
}

TEST(BpeModelTest, AByteFallbackWithMissingBytesIsUnknown) {
  BpeSpec spec;
  spec.vocab = {{"<unk>", 0}, {"a", 1}, {"<0xC3>", 2}, {"<0xA9>", 3}};
  spec.unk_token = "<unk>";
  spec.byte_fallback = true;
  EXPECT_THAT(Encode(**BpeModel::Create(spec, false), "aéè"), ElementsAre(1, 2, 3, 0));
}

TEST(BpeModelTest, AMergeOutsideTheVocabularyIsAnErrorThatNamesIt) {
  BpeSpec spec;
  spec.vocab = {{"a", 0}, {"b", 1}};
  spec.merges = {{"a", "b"}};
  const auto model = BpeModel::Create(spec, true);
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(model.status().message()), testing::HasSubstr("model.merges[0]"));
}

}  // namespace
}  // namespace baton
