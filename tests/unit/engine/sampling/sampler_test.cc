#include "engine/sampling/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "engine/sampling/random.h"

namespace baton {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// One request at one place in its output.
struct Request {
  SamplingParams sampling;
  StoppingParams stopping;
  std::vector<TokenId> tokens = {0};
  int32_t prompt_length = 1;
  int32_t sample = 0;
  std::vector<TokenId> eos_tokens;

  absl::StatusOr<DrawnToken> Draw(const std::vector<float>& logits) const {
    Sampler sampler(static_cast<int32_t>(logits.size()));
    return Draw(sampler, logits);
  }
  absl::StatusOr<DrawnToken> Draw(Sampler& sampler, const std::vector<float>& logits) const {
    return sampler.Draw(logits, {.sampling = sampling,
                                 .stopping = stopping,
                                 .tokens = tokens,
                                 .prompt_length = prompt_length,
                                 .sample = sample,
                                 .eos_tokens = eos_tokens});
  }
};

Request Greedy() {
  Request request;
  request.sampling.temperature = 0;
  return request;
}

// How often each token is drawn over `draws` different seeds.
std::map<TokenId, int> Frequencies(Request request, const std::vector<float>& logits, int draws) {
  Sampler sampler(static_cast<int32_t>(logits.size()));
  std::map<TokenId, int> counts;
  for (int i = 0; i < draws; ++i) {
    request.sampling.seed = static_cast<uint64_t>(i) * 7919 + 13;
    ++counts[request.Draw(sampler, logits)->token];
  }
  return counts;
}

double ChiSquare(const std::map<TokenId, int>& counts, const std::map<TokenId, double>& expected,
                 int draws) {
  double sum = 0;
  for (const auto& [token, probability] : expected) {
    const auto found = counts.find(token);
    const double observed = found == counts.end() ? 0 : found->second;
    sum +=
        (observed - probability * draws) * (observed - probability * draws) / (probability * draws);
  }
  return sum;
}

std::map<TokenId, double> Softmax(const std::vector<float>& logits, double temperature,
                                  const std::set<TokenId>& among) {
  double total = 0;
  for (const TokenId t : among) total += std::exp(logits[static_cast<size_t>(t)] / temperature);
  std::map<TokenId, double> probabilities;
  for (const TokenId t : among) {
    probabilities[t] = std::exp(logits[static_cast<size_t>(t)] / temperature) / total;
  }
  return probabilities;
}

const std::vector<float> kLogits = {0.5f, 2.0f, 1.0f, -1.0f, 2.0f, 0.0f};

TEST(SamplerTest, GreedyTakesTheMostLikelyAndTheLowestOfEquals) {
  EXPECT_EQ(Greedy().Draw(kLogits)->token, 1);
  Request tiny = Greedy();
  tiny.sampling.temperature = 1e-30f;
  EXPECT_EQ(tiny.Draw(kLogits)->token, 1);
}

TEST(SamplerTest, DrawsFollowTheSoftmax) {
  constexpr int kDraws = 40000;
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    Request request;
    request.sampling.temperature = temperature;
    const auto expected = Softmax(kLogits, double{temperature}, {0, 1, 2, 3, 4, 5});
    const double chi = ChiSquare(Frequencies(request, kLogits, kDraws), expected, kDraws);
    EXPECT_LT(chi, 20.5) << "temperature " << temperature;  // 5 degrees of freedom, p = 0.001
  }
}

TEST(SamplerTest, TopKKeepsTheMostLikelyAndRenormalises) {
  constexpr int kDraws = 20000;
  Request request;
  request.sampling.top_k = 3;
  const auto counts = Frequencies(request, kLogits, kDraws);
  const auto expected = Softmax(kLogits, 1, {1, 2, 4});
  EXPECT_EQ(counts.size(), 3u);
  EXPECT_LT(ChiSquare(counts, expected, kDraws), 13.8);  // 2 degrees of freedom
  request.sampling.top_k = 1;
  EXPECT_EQ(Frequencies(request, kLogits, 100).begin()->first, 1) << "the lowest of equals";
  request.sampling.top_k = 1000;
  EXPECT_EQ(Frequencies(request, kLogits, kDraws).size(), 6u);
}

TEST(SamplerTest, TopPKeepsTheSmallestSetThatReachesIt) {
  // Probabilities 0.5, 0.25, 0.125, 0.125.
  const std::vector<float> logits = {std::log(4.0f), std::log(2.0f), 0.0f, 0.0f};
  const std::map<float, size_t> kept = {{0.3f, 1},  {0.49f, 1}, {0.51f, 2}, {0.74f, 2},
                                        {0.76f, 3}, {0.87f, 3}, {0.9f, 4},  {1.0f, 4}};
  for (const auto& [top_p, size] : kept) {
    Request request;
    request.sampling.top_p = top_p;
    EXPECT_EQ(Frequencies(request, logits, 500).size(), size) << "top_p " << top_p;
  }
  constexpr int kDraws = 20000;
  Request request;
  request.sampling.top_p = 0.6f;
  EXPECT_LT(ChiSquare(Frequencies(request, logits, kDraws), {{0, 2.0 / 3}, {1, 1.0 / 3}}, kDraws),
            10.8);  // 1 degree of freedom
}

TEST(SamplerTest, TopPIsTakenOfWhatTopKLeft) {
  // Of 0.5, 0.25, 0.125, 0.125 top_k 2 leaves 2/3 and 1/3.
  const std::vector<float> logits = {std::log(4.0f), std::log(2.0f), 0.0f, 0.0f};
  Request request;
  request.sampling.top_k = 2;
  request.sampling.top_p = 0.65f;
  EXPECT_EQ(Frequencies(request, logits, 500).size(), 1u);
  request.sampling.top_p = 0.68f;
  EXPECT_EQ(Frequencies(request, logits, 500).size(), 2u);
}

TEST(SamplerTest, MinPDropsWhatIsFarBelowTheMostLikely) {
  const std::vector<float> logits = {std::log(10.0f), std::log(4.0f), std::log(2.0f), 0.0f};
  const std::map<float, size_t> kept = {{0.05f, 4}, {0.15f, 3}, {0.3f, 2}, {0.5f, 1}, {1.0f, 1}};
  for (const auto& [min_p, size] : kept) {
    for (const int32_t top_k : {0, 4}) {
      for (const float top_p : {1.0f, 0.9999f}) {
        Request request;
        request.sampling.min_p = min_p;
        request.sampling.top_k = top_k;
        request.sampling.top_p = top_p;
        EXPECT_EQ(Frequencies(request, logits, 1000).size(), size)
            << "min_p " << min_p << " top_k " << top_k << " top_p " << top_p;
      }
    }
  }
}

// A flat distribution over a large vocabulary: top_p's set is far larger than the first selection.
TEST(SamplerTest, TopPWorksWhereTheSetIsLarge) {
  constexpr int32_t kVocab = 20000;
  std::vector<float> logits(kVocab);
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = i % 2 == 0 ? 0.0f : -1e-3f;  // the even tokens hold a little more than half
  }
  Request request;
  request.sampling.top_p = 0.5f;
  for (const auto& [token, count] : Frequencies(request, logits, 60)) {
    EXPECT_EQ(token % 2, 0);
  }
  request.sampling.top_p = 0.95f;
  bool odd = false;
  for (const auto& [token, count] : Frequencies(request, logits, 60)) odd |= token % 2 == 1;
  EXPECT_TRUE(odd);
}

TEST(SamplerTest, PlainDrawsReachEveryChunkOfALargeVocabulary) {
  constexpr int32_t kVocab = 8192;
  const std::vector<float> flat(kVocab, 1.0f);
  constexpr int kDraws = 16000;
  std::map<TokenId, int> by_chunk;
  for (const auto& [token, count] : Frequencies(Request(), flat, kDraws)) {
    by_chunk[token / 512] += count;
  }
  std::map<TokenId, double> expected;
  for (TokenId chunk = 0; chunk < 16; ++chunk) expected[chunk] = 1.0 / 16;
  EXPECT_LT(ChiSquare(by_chunk, expected, kDraws), 37.7);  // 15 degrees of freedom, p = 0.001
}

TEST(SamplerTest, PenaltiesFollowTheirDefinitions) {
  Request request = Greedy();
  request.tokens = {2, 3, 1, 1, 0};  // prompt 2, 3; outputs 1 twice and 0 once
  request.prompt_length = 2;
  // Hugging Face: positive logits divided, negative ones multiplied, prompt and outputs alike.
  request.sampling.repetition_penalty = 2.0f;
  EXPECT_EQ(request.Draw({4.0f, 4.2f, 4.4f, -1.0f, 2.3f})->token, 4);
  EXPECT_EQ(request.Draw({4.0f, 4.2f, 5.0f, -1.0f, 2.3f})->token, 2);
  EXPECT_EQ(request.Draw({-1.0f, -1.0f, -1.0f, -1.0f, -1.9f})->token, 4);
  // OpenAI: outputs only; frequency per occurrence, presence once.
  request.sampling.repetition_penalty = 1.0f;
  request.sampling.frequency_penalty = 0.5f;
  EXPECT_EQ(request.Draw({3.0f, 3.4f, 2.0f, 0.0f, 0.0f})->token, 0) << "3 - 0.5 over 3.4 - 2 * 0.5";
  EXPECT_EQ(request.Draw({3.0f, 3.6f, 2.0f, 0.0f, 0.0f})->token, 1);
  EXPECT_EQ(request.Draw({3.0f, 3.4f, 2.6f, 0.0f, 0.0f})->token, 2) << "prompt tokens are free";
  request.sampling.frequency_penalty = 0.0f;
  request.sampling.presence_penalty = 0.5f;
  EXPECT_EQ(request.Draw({3.0f, 3.4f, 2.0f, 0.0f, 0.0f})->token, 1) << "once, however often";
  EXPECT_EQ(request.Draw({3.0f, 3.4f, 3.0f, 0.0f, 0.0f})->token, 2);
}

TEST(SamplerTest, BiasIsAddedAndUnknownTokensAreIgnored) {
  Request request = Greedy();
  request.sampling.logit_bias = {{5, 10.0f}, {100, 50.0f}, {-3, 50.0f}};
  EXPECT_EQ(request.Draw(kLogits)->token, 5);
  request.sampling.logit_bias = {{1, -100.0f}};
  EXPECT_EQ(request.Draw(kLogits)->token, 4);
}

TEST(SamplerTest, StopTokensCannotComeBeforeMinTokens) {
  Request request = Greedy();
  request.stopping.min_tokens = 2;
  request.stopping.stop_token_ids = {4};
  request.eos_tokens = {1};
  request.tokens = {0};
  EXPECT_EQ(request.Draw(kLogits)->token, 2) << "output 0";
  request.tokens = {0, 2};
  EXPECT_EQ(request.Draw(kLogits)->token, 2) << "output 1";
  request.tokens = {0, 2, 2};
  EXPECT_EQ(request.Draw(kLogits)->token, 1) << "output 2";
}

TEST(SamplerTest, MasksThatForbidEverythingAreNotApplied) {
  Request request = Greedy();
  request.stopping.min_tokens = 5;
  request.stopping.stop_token_ids = {0, 1, 2};
  EXPECT_EQ(request.Draw({1.0f, 3.0f, 2.0f})->token, 1);
}

TEST(SamplerTest, ABrokenRowIsAnErrorAndNeverAToken) {
  for (const float temperature : {0.0f, 1.0f}) {
    Request request;
    request.sampling.temperature = temperature;
    const auto nan = request.Draw({1.0f, kNan, 2.0f});
    EXPECT_EQ(nan.status().code(), absl::StatusCode::kInternal);
    EXPECT_THAT(nan.status().ToString(), ::testing::HasSubstr("token 1 is nan"));
    EXPECT_EQ(request.Draw({1.0f, kInfinity, 2.0f}).status().code(), absl::StatusCode::kInternal);
    EXPECT_EQ(request.Draw({-kInfinity, -kInfinity}).status().code(), absl::StatusCode::kInternal);
    EXPECT_EQ(request.Draw({-kInfinity, -50.0f, -kInfinity})->token, 1);
  }
  Sampler sampler(2);
  EXPECT_EQ(sampler.Score(std::vector<float>{kNan, 0.0f}, 1, 0).status().code(),
            absl::StatusCode::kInternal);
}

TEST(SamplerTest, ForbiddenTokensAreNeverDrawn) {
  const std::vector<float> logits = {-kInfinity, 1.0f, -kInfinity, 1.0f};
  for (const int32_t top_k : {0, 3, 4}) {
    for (const float top_p : {1.0f, 0.99f}) {
      Request request;
      request.sampling.top_k = top_k;
      request.sampling.top_p = top_p;
      for (const auto& [token, count] : Frequencies(request, logits, 2000)) {
        EXPECT_EQ(token % 2, 1);
      }
    }
  }
}

TEST(SamplerTest, ADrawDependsOnSeedSampleAndIndexOnly) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 37 % 101) * 0.03f;
  Sampler used(1000);
  std::set<TokenId> tokens;
  for (int i = 0; i < 200; ++i) {
    Request request;
    request.sampling.seed = 11;
    request.sampling.top_p = i % 3 == 0 ? 0.8f : 1.0f;
    request.sample = i % 4;
    request.tokens.resize(static_cast<size_t>(1 + i / 4));
    request.sampling.repetition_penalty = i % 2 == 0 ? 1.0f : 1.5f;
    // A sampler with a past gives what a fresh one gives.
    const TokenId token = request.Draw(used, logits)->token;
    EXPECT_EQ(token, request.Draw(logits)->token);
    EXPECT_EQ(token, request.Draw(used, logits)->token);
    tokens.insert(token);
  }
  EXPECT_GT(tokens.size(), 100u);
}

// Pinned: a change here changes what every user gets for a seed.
TEST(SamplerTest, GivesTheSameTokensAsEver) {
  std::vector<float> logits(64);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 29 % 64) * 0.05f;
  Request request;
  request.sampling.seed = 42;
  std::vector<TokenId> plain, nucleus;
  for (int i = 0; i < 8; ++i) {
    request.tokens.resize(static_cast<size_t>(1 + i));
    request.sampling.top_p = 1.0f;
    plain.push_back(request.Draw(logits)->token);
    request.sampling.top_p = 0.7f;
    nucleus.push_back(request.Draw(logits)->token);
  }
  EXPECT_THAT(plain, ::testing::ElementsAre(36, 63, 50, 44, 20, 19, 13, 22));
  EXPECT_THAT(nucleus, ::testing::ElementsAre(57, 61, 59, 26, 2, 55, 44, 2));
}

TEST(SamplerTest, LogprobsAreThoseOfTheRawDistribution) {
  Request request;
  request.sampling.num_logprobs = 3;
  request.sampling.temperature = 0.1f;
  request.sampling.top_k = 1;
  request.sampling.logit_bias = {{3, 20.0f}};
  const auto drawn = request.Draw(kLogits);
  ASSERT_TRUE(drawn.ok());
  EXPECT_EQ(drawn->token, 3) << "the bias decides";
  const auto raw = Softmax(kLogits, 1, {0, 1, 2, 3, 4, 5});
  EXPECT_NEAR(drawn->logprob, std::log(raw.at(3)), 1e-5);
  ASSERT_EQ(drawn->top_logprobs.size(), 3u);
  const TokenId most_likely[] = {1, 4, 2};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(drawn->top_logprobs[i].token, most_likely[i]);
    EXPECT_NEAR(drawn->top_logprobs[i].logprob, std::log(raw.at(most_likely[i])), 1e-5);
  }
  request.sampling.num_logprobs = 0;
  EXPECT_TRUE(request.Draw(kLogits)->top_logprobs.empty());
  EXPECT_NEAR(request.Draw(kLogits)->logprob, std::log(raw.at(3)), 1e-5);
  request.sampling.num_logprobs = -1;
  EXPECT_EQ(request.Draw(kLogits)->logprob, 0.0f);
  request.sampling.num_logprobs = 50;
  EXPECT_EQ(request.Draw(kLogits)->top_logprobs.size(), kLogits.size());
}

TEST(SamplerTest, ScoringATokenGivesItsLogprob) {
  Sampler sampler(static_cast<int32_t>(kLogits.size()));
  const auto scored = sampler.Score(kLogits, 3, 2);
  const auto raw = Softmax(kLogits, 1, {0, 1, 2, 3, 4, 5});
  EXPECT_EQ(scored->token, 3);
  EXPECT_NEAR(scored->logprob, std::log(raw.at(3)), 1e-5);
  ASSERT_EQ(scored->top_logprobs.size(), 2u);
  EXPECT_EQ(scored->top_logprobs[0].token, 1);
}

}  // namespace
}  // namespace baton
