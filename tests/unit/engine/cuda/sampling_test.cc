// Draws on the device against the CPU's Sampler.
#include <gmock/gmock.h>

#include <limits>

#include "engine/kernels/cuda/sampler.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One request at one place in its output.
struct Request {
  SamplingParams sampling;
  StoppingParams stopping;
  std::vector<TokenId> tokens = {0};
  int32_t prompt_length = 1;
  int32_t sample = 0;
  std::vector<TokenId> eos_tokens;
  TokenId given = -1;

  SampleContext context() const {
    return {.sampling = sampling,
            .stopping = stopping,
            .tokens = tokens,
            .prompt_length = prompt_length,
            .sample = sample,
            .eos_tokens = eos_tokens};
  }
};

class CudaSamplingTest : public CudaTest {
 protected:
  static constexpr int32_t kVocabs[] = {1, 2, 31, 257, 512, 4096, 4099};

  std::vector<absl::StatusOr<DrawnToken>> OnDeviceDraw(const std::vector<Request>& requests,
                                                       const std::vector<float>& logits) {
    const auto rows = static_cast<int32_t>(requests.size());
    const auto vocab_size = static_cast<int32_t>(logits.size() / requests.size());
    absl::StatusOr<CudaSampler> sampler = CudaSampler::Create(context(), rows, vocab_size);
    BATON_CHECK(sampler.ok()) << sampler.status();
    for (int32_t row = 0; row < rows; ++row) {
      const Request& request = requests[static_cast<size_t>(row)];
      BATON_CHECK_OK(request.given >= 0
                         ? sampler->AddGiven(row, request.given, request.sampling.num_logprobs)
                         : sampler->Add(row, request.context()));
    }
    const DeviceArray<float> device_logits = OnDevice(logits);
    BATON_CHECK_OK(sampler->Start(device_logits.data()));
    BATON_CHECK_OK(context().Synchronize());
    std::vector<absl::StatusOr<DrawnToken>> drawn;
    for (int32_t row = 0; row < rows; ++row) drawn.push_back(sampler->Take(row));
    return drawn;
  }

  // Row i of `logits` belongs to request i.
  void ExpectAsOnTheCpu(const std::vector<Request>& requests, const std::vector<float>& logits) {
    const size_t vocab_size = logits.size() / requests.size();
    Sampler cpu(static_cast<int32_t>(vocab_size));
    const std::vector<absl::StatusOr<DrawnToken>> found = OnDeviceDraw(requests, logits);
    for (size_t row = 0; row < requests.size(); ++row) {
      const std::span<const float> one(logits.data() + row * vocab_size, vocab_size);
      const Request& request = requests[row];
      const absl::StatusOr<DrawnToken> expected =
          request.given >= 0 ? cpu.Score(one, request.given, request.sampling.num_logprobs)
                             : cpu.Draw(one, request.context());
      ASSERT_EQ(found[row].status(), expected.status()) << "row " << row;
      if (expected.ok()) ExpectSame(*found[row], *expected, row, vocab_size);
    }
  }

  static void ExpectSame(const DrawnToken& found, const DrawnToken& expected, size_t row,
                         size_t vocab_size) {
    ASSERT_EQ(found.token, expected.token) << "row " << row << " of " << vocab_size;
    ASSERT_FLOAT_EQ(found.logprob, expected.logprob);
    ASSERT_EQ(found.top_logprobs.size(), expected.top_logprobs.size());
    for (size_t i = 0; i < found.top_logprobs.size(); ++i) {
      ASSERT_EQ(found.top_logprobs[i].token, expected.top_logprobs[i].token) << "row " << row;
      ASSERT_FLOAT_EQ(found.top_logprobs[i].logprob, expected.top_logprobs[i].logprob);
    }
  }

  // `rows` draws of requests that `change` makes different, over random logits.
  template <typename Change>
  void ExpectDraws(int32_t vocab_size, int rows, Change change) {
    std::vector<Request> requests(static_cast<size_t>(rows));
    for (Request& request : requests) {
      request.sampling.seed = random_();
      request.sample = Below(3);
      request.tokens.assign(1 + Below(9), 0);
      change(request);
    }
    // Few different logits in some tests' rows: ties.
    std::vector<float> logits = Random(requests.size() * vocab_size, 3.0f);
    if (with_ties_) {
      for (float& logit : logits) logit = std::round(logit);
    }
    ExpectAsOnTheCpu(requests, logits);
  }

  int32_t Below(int32_t bound) { return static_cast<int32_t>(random_() % bound); }
  float Fraction() { return static_cast<float>(1 + Below(1000)) / 1000; }

  bool with_ties_ = false;
};

TEST_F(CudaSamplingTest, TakesTheMostLikely) {
  for (const int32_t vocab_size : kVocabs) {
    for (const bool ties : {false, true}) {
      with_ties_ = ties;
      ExpectDraws(vocab_size, 20, [](Request& request) { request.sampling.temperature = 0; });
    }
  }
}

TEST_F(CudaSamplingTest, DrawsFromAllTokens) {
  for (const int32_t vocab_size : kVocabs) {
    ExpectDraws(vocab_size, 300, [&](Request& request) {
      request.sampling.temperature = 2 * Fraction();
      if (Below(2) == 0) request.sampling.min_p = Fraction() * Fraction() * Fraction();
    });
  }
}

TEST_F(CudaSamplingTest, DrawsFromTopP) {
  for (const int32_t vocab_size : kVocabs) {
    for (const bool ties : {false, true}) {
      with_ties_ = ties;
      ExpectDraws(vocab_size, 200, [&](Request& request) {
        request.sampling.top_p = Fraction();
        if (Below(4) == 0) request.sampling.min_p = Fraction() * Fraction();
      });
    }
  }
}

TEST_F(CudaSamplingTest, DrawsFromTopK) {
  for (const int32_t vocab_size : kVocabs) {
    for (const bool ties : {false, true}) {
      with_ties_ = ties;
      ExpectDraws(vocab_size, 200, [&](Request& request) {
        request.sampling.top_k = 1 + Below(Below(2) == 0 ? 8 : vocab_size + 3);
        if (Below(2) == 0) request.sampling.top_p = Fraction();
        if (Below(4) == 0) request.sampling.min_p = Fraction() * Fraction();
      });
    }
  }
}

// Different logits have equal weights here, and are still drawn in the order of the logits.
TEST_F(CudaSamplingTest, RanksByLogitWhereWeightsAreEqual) {
  for (const int32_t top_k : {1, 3, 7, 20}) {
    std::vector<Request> requests(100);
    std::vector<float> logits;
    for (Request& request : requests) {
      request.sampling = {
          .temperature = 1e6f, .top_p = Fraction(), .top_k = top_k, .seed = random_()};
      const std::vector<float> row = Random(20, 1e-3f);
      logits.insert(logits.end(), row.begin(), row.end());
    }
    ExpectAsOnTheCpu(requests, logits);
  }
}

// Weights are 1, 1, 1, 1 or 1, 1/2, 1/2: the first of them are half of the whole.
TEST_F(CudaSamplingTest, TopPEndsWhereItsShareIsJustMet) {
  for (const std::vector<float>& row :
       {std::vector<float>(4, 0.0f), {0.0f, -std::log(2.0f), -std::log(2.0f), -80.0f}}) {
    std::vector<Request> requests(100);
    std::vector<float> logits;
    for (Request& request : requests) {
      request.sampling = {.temperature = 1.0f, .top_p = 0.5f, .seed = random_()};
      logits.insert(logits.end(), row.begin(), row.end());
    }
    ExpectAsOnTheCpu(requests, logits);
  }
}

TEST_F(CudaSamplingTest, AppliesBiasesMasksAndPenalties) {
  for (const int32_t vocab_size : kVocabs) {
    ExpectDraws(vocab_size, 150, [&](Request& request) {
      SamplingParams& sampling = request.sampling;
      sampling.temperature = Below(3) == 0 ? 0.0f : 1.0f;
      for (int i = Below(5); i > 0; --i) {
        sampling.logit_bias.push_back({Below(vocab_size + 2) - 1, 4 * Fraction() - 2});
        if (Below(2) == 0) sampling.logit_bias.push_back({sampling.logit_bias[0].first, 0.1f});
      }
      request.tokens.clear();
      for (int i = 3 + Below(30); i > 0; --i) request.tokens.push_back(Below(vocab_size));
      request.prompt_length = 1 + Below(3);
      request.stopping.min_tokens = Below(40);
      request.stopping.stop_token_ids = {Below(vocab_size), vocab_size};
      request.eos_tokens = {Below(vocab_size), -1};
      if (Below(2) == 0) sampling.repetition_penalty = 0.5f + Fraction();
      if (Below(2) == 0) sampling.frequency_penalty = 2 * Fraction() - 1;
      if (Below(2) == 0) sampling.presence_penalty = 2 * Fraction() - 1;
    });
  }
}

TEST_F(CudaSamplingTest, MasksThatForbidEverythingAreNotApplied) {
  Request request;
  request.stopping = {.min_tokens = 5, .stop_token_ids = {0, 1}};
  request.eos_tokens = {2};
  ExpectAsOnTheCpu({request}, {0.0f, 2.0f, 1.0f});
}

TEST_F(CudaSamplingTest, GivesLogprobsOfTheRawDistribution) {
  for (const int32_t vocab_size : kVocabs) {
    for (const bool ties : {false, true}) {
      with_ties_ = ties;
      ExpectDraws(vocab_size, 30, [&](Request& request) {
        request.sampling.num_logprobs = Below(25) - 1;
        request.sampling.logit_bias = {{0, 5.0f}};
        if (Below(3) == 0) {
          request.given = Below(vocab_size);
          request.sampling.num_logprobs = Below(10);
        }
      });
    }
  }
  ExpectDraws(4099, 1, [](Request& request) { request.sampling.num_logprobs = kMaxTopLogprobs; });
}

TEST_F(CudaSamplingTest, DrawsFromTheRowThatIsNamed) {
  constexpr int32_t kVocab = 300;
  const int32_t logits_rows[] = {2, 0, 2, 1, 2};
  const std::vector<float> logits = Random(3 * kVocab);
  absl::StatusOr<CudaSampler> sampler = CudaSampler::Create(context(), 5, kVocab);
  ASSERT_TRUE(sampler.ok());
  std::vector<Request> requests(5);
  for (int32_t i = 0; i < 5; ++i) {
    requests[i].sample = i;
    BATON_CHECK_OK(sampler->Add(logits_rows[i], requests[i].context()));
  }
  const DeviceArray<float> device_logits = OnDevice(logits);
  BATON_CHECK_OK(sampler->Start(device_logits.data()));
  BATON_CHECK_OK(context().Synchronize());
  Sampler on_host(kVocab);
  for (int32_t i = 0; i < 5; ++i) {
    const auto row =
        std::span(logits).subspan(static_cast<size_t>(logits_rows[i] * kVocab), kVocab);
    EXPECT_EQ(sampler->Take(i)->token, on_host.Draw(row, requests[i].context())->token) << i;
  }
}

TEST_F(CudaSamplingTest, RefusesBrokenRowsAndOnlyThem) {
  constexpr int32_t kVocab = 300;
  std::vector<Request> requests(6);
  std::vector<float> logits = Random(requests.size() * kVocab);
  logits[0 * kVocab + 7] = std::numeric_limits<float>::quiet_NaN();
  logits[1 * kVocab + 299] = kInfinity;
  std::fill_n(logits.begin() + 2 * kVocab, kVocab, -kInfinity);
  std::fill_n(logits.begin() + 3 * kVocab, kVocab, std::numeric_limits<float>::quiet_NaN());
  std::fill_n(logits.begin() + 4 * kVocab + 1, kVocab - 1, -kInfinity);
  const std::vector<absl::StatusOr<DrawnToken>> found = OnDeviceDraw(requests, logits);
  EXPECT_THAT(found[0].status().message(), testing::HasSubstr("logit of token 7 is nan"));
  EXPECT_THAT(found[1].status().message(), testing::HasSubstr("logit of token 299 is inf"));
  EXPECT_THAT(found[2].status().message(), testing::HasSubstr("all tokens are -inf"));
  EXPECT_THAT(found[3].status().message(), testing::HasSubstr("logit of token 0 is"));
  ASSERT_TRUE(found[4].ok());
  EXPECT_EQ(found[4]->token, 0);
  EXPECT_TRUE(found[5].ok());
}

TEST_F(CudaSamplingTest, LargeVocabularyAgreesToo) {
  for (const int32_t top_k : {0, 50}) {
    for (const float top_p : {1.0f, 0.9f}) {
      // Rows that are vectors as a whole, and rows of which most are none.
      ExpectDraws(top_k == 0 ? 50004 : 50001, 4, [&](Request& request) {
        request.sampling.top_k = top_k;
        request.sampling.top_p = top_p;
      });
    }
  }
}

TEST_F(CudaSamplingTest, ATokenThatWasDrawnGoesIntoTheNextStep) {
  constexpr int32_t kRows = 300;  // more than a thread block's
  std::vector<CudaDrawnToken> drawn;
  std::vector<int32_t> draws;
  std::vector<TokenId> tokens;
  std::vector<TokenId> expected;
  for (int32_t row = 0; row < kRows; ++row) {
    drawn.push_back(
        {.result = row % 7 == 0 ? CudaDraw::kNotFinite : CudaDraw::kDrawn, .token = 1000 + row});
    const int32_t draw = row % 3 == 0 ? -1 : kRows - 1 - row;
    draws.push_back(draw);
    tokens.push_back(row);
    expected.push_back(draw < 0 ? row : draw % 7 == 0 ? 0 : 1000 + draw);
  }
  const DeviceArray<CudaDrawnToken> device_drawn = OnDevice(drawn);
  const DeviceArray<int32_t> device_draws = OnDevice(draws);
  DeviceArray<TokenId> device_tokens = OnDevice(tokens);
  TakeDrawnTokens(context(), {.drawn = device_drawn.data(),
                              .draws = device_draws.data(),
                              .tokens = device_tokens.data(),
                              .rows = kRows});
  EXPECT_EQ(OnHost(device_tokens), expected);
}

// What is enqueued for the second leaves what the first has drawn.
TEST_F(CudaSamplingTest, TwoStepsMayBeOpen) {
  constexpr int32_t kVocab = 512;
  const std::vector<float> logits[] = {Random(kVocab, 3.0f), Random(kVocab, 3.0f)};
  const Request request{.sampling = {.temperature = 0.7f, .top_p = 0.9f, .num_logprobs = 3}};
  absl::StatusOr<CudaSampler> first = CudaSampler::Create(context(), 1, kVocab);
  ASSERT_TRUE(first.ok()) << first.status();
  absl::StatusOr<CudaSampler> second = CudaSampler::CreateBeside(*first);
  ASSERT_TRUE(second.ok()) << second.status();
  const DeviceArray<float> of_first = OnDevice(logits[0]);
  const DeviceArray<float> of_second = OnDevice(logits[1]);
  ASSERT_TRUE(first->Add(0, request.context()).ok());
  ASSERT_TRUE(first->Start(of_first.data()).ok());
  ASSERT_TRUE(second->Add(0, request.context()).ok());
  ASSERT_TRUE(second->Start(of_second.data()).ok());
  ASSERT_TRUE(context().Synchronize().ok());
  Sampler cpu(kVocab);
  ExpectSame(*first->Take(0), *cpu.Draw(logits[0], request.context()), 0, kVocab);
  ExpectSame(*second->Take(0), *cpu.Draw(logits[1], request.context()), 1, kVocab);
}

TEST_F(CudaSamplingTest, RefusesWhatItCannotHold) {
  EXPECT_EQ(CudaSampler::Create(context(), 1, kMaxSampledVocab + 1).status().code(),
            absl::StatusCode::kInvalidArgument);
  absl::StatusOr<CudaSampler> sampler = CudaSampler::Create(context(), 1, 2000);
  ASSERT_TRUE(sampler.ok());
  Request request;
  request.sampling.num_logprobs = kMaxTopLogprobs + 1;
  EXPECT_EQ(sampler->Add(0, request.context()).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton
