#include "router/relay/request_relay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <random>
#include <string>

#include "tests/unit/router/fake_tokenizer.h"

namespace baton::router {
namespace {

using ::testing::ElementsAre;

class ListSink final : public ResponseSink {
 public:
  void OnPromptLogprobs(std::vector<OutputToken> tokens) override { prompt = std::move(tokens); }
  void OnDelta(SampleDelta delta) override {
    const auto sample = static_cast<size_t>(delta.sample);
    if (texts.size() <= sample) texts.resize(sample + 1);
    texts[sample] += delta.text;
    num_tokens += delta.tokens.size();
    for (const OutputToken& token : delta.tokens) pieces.push_back(token.piece);
    if (delta.finished) finishes.push_back(delta);
  }
  void OnFinish(RequestSummary s) override { summary = std::move(s); }
  void OnError(RequestError e) override { error = std::move(e); }

  std::vector<OutputToken> prompt;
  std::vector<std::string> texts;
  std::vector<std::string> pieces;
  size_t num_tokens = 0;
  std::vector<SampleDelta> finishes;
  std::optional<RequestSummary> summary;
  std::optional<RequestError> error;
};

class RelayTest : public ::testing::Test {
 protected:
  std::unique_ptr<RequestRelay> Make(OutputParams output, StoppingParams stopping = {},
                                     int32_t samples = 1, bool pieces = false) {
    sink_ = std::make_shared<ListSink>();
    RelayRequest request{.tokenizer = &tokenizer_,
                         .prompt = {'x'},
                         .output = std::move(output),
                         .stopping = std::move(stopping),
                         .eos_tokens = {tokenizer_.eos_token()},
                         .with_pieces = pieces};
    return std::make_unique<RequestRelay>(std::move(request), 0, samples, sink_);
  }
  // Pushes bytes as tokens; returns how many until a stop string ended it.
  size_t PushText(RequestRelay& relay, const std::string& text) {
    for (size_t i = 0; i < text.size(); ++i) {
      const absl::StatusOr<bool> stopped =
          relay.OnToken({0, next_++, static_cast<unsigned char>(text[i])});
      EXPECT_TRUE(stopped.ok()) << stopped.status();
      if (*stopped) return i + 1;
    }
    return text.size();
  }

  FakeTokenizer tokenizer_{{"ab", "\xC3", "\xA9x", "stop"}};
  std::shared_ptr<ListSink> sink_;
  int32_t next_ = 0;
};

TEST_F(RelayTest, EmitsWholeCharactersOnly) {
  const auto relay = Make({});
  PushText(*relay, "a\xC3");
  EXPECT_EQ(sink_->texts[0], "a");
  PushText(*relay, "\xA9");
  EXPECT_EQ(sink_->texts[0], "a\xC3\xA9");
  PushText(*relay, "\xE2\x82");
  relay->OnSampleFinish({.sample = 0, .reason = FinishReason::kLength, .output_tokens = 5});
  EXPECT_EQ(sink_->texts[0], "a\xC3\xA9\xEF\xBF\xBD");
}

TEST_F(RelayTest, AStopStringAcrossTokensEndsTheSampleOnce) {
  const auto relay = Make({.stop = {"end"}});
  EXPECT_EQ(PushText(*relay, "the eend of"), 8u);
  EXPECT_EQ(sink_->texts[0], "the e");
  ASSERT_EQ(sink_->finishes.size(), 1u);
  EXPECT_EQ(sink_->finishes[0].reason, FinishReason::kStop);
  EXPECT_EQ(sink_->finishes[0].stop_reason, "end");
  EXPECT_FALSE(*relay->OnToken({0, next_++, 'z'})) << "later tokens are dropped";
  relay->OnSampleFinish({.sample = 0, .reason = FinishReason::kLength});
  EXPECT_EQ(sink_->finishes.size(), 1u);
  relay->Complete({.prompt_tokens = 1, .completion_tokens = 99});
  EXPECT_EQ(sink_->summary->completion_tokens, 8) << "what the client was shown";
}

TEST_F(RelayTest, HeldTextGoesOutWhenTheSampleEnds) {
  const auto relay = Make({.stop = {"end"}});
  PushText(*relay, "the en");
  EXPECT_EQ(sink_->texts[0], "the ");
  relay->OnSampleFinish({.sample = 0, .reason = FinishReason::kLength, .output_tokens = 6});
  EXPECT_EQ(sink_->texts[0], "the en");
}

TEST_F(RelayTest, TheStopStringIsIncludedWhenAskedFor) {
  const auto relay = Make({.stop = {"end"}, .include_stop_str_in_output = true});
  PushText(*relay, "the end");
  EXPECT_EQ(sink_->texts[0], "the end");
}

TEST_F(RelayTest, StopStringsAreNotLookedForBeforeMinTokens) {
  const auto relay = Make({.stop = {"ab"}}, {.min_tokens = 3});
  EXPECT_EQ(PushText(*relay, "abaab"), 5u);
  EXPECT_EQ(sink_->texts[0], "aba");
}

TEST_F(RelayTest, TheTextOfEndAndStopTokensIsHiddenUnlessAskedFor) {
  const TokenId stop = 259;  // "stop", a plain token
  for (const bool include : {false, true}) {
    next_ = 0;
    const auto relay = Make({.include_stop_str_in_output = include}, {.stop_token_ids = {stop}});
    PushText(*relay, "a");
    ASSERT_TRUE(relay->OnToken({0, next_++, stop}).ok());
    relay->OnSampleFinish({.sample = 0, .stop_token = stop, .output_tokens = 2});
    EXPECT_EQ(sink_->texts[0], include ? "astop" : "a");
    EXPECT_EQ(sink_->finishes[0].stop_token, stop);
    EXPECT_EQ(sink_->num_tokens, 2u);
  }
  for (const bool include : {false, true}) {
    next_ = 0;
    const auto relay = Make({.include_stop_str_in_output = include, .skip_special_tokens = false});
    PushText(*relay, "a");
    ASSERT_TRUE(relay->OnToken({0, next_++, tokenizer_.eos_token()}).ok());
    relay->OnSampleFinish({.sample = 0, .stop_token = tokenizer_.eos_token(), .output_tokens = 2});
    EXPECT_EQ(sink_->texts[0], include ? "a<end>" : "a");
    EXPECT_EQ(sink_->finishes[0].stop_token, -1) << "the model's own end is no stop reason";
  }
}

TEST_F(RelayTest, SamplesAreIndependent) {
  const auto relay = Make({.stop = {"b"}}, {}, 3);
  ASSERT_FALSE(*relay->OnToken({2, 0, 'c'}));
  ASSERT_TRUE(*relay->OnToken({1, 0, 'b'}));
  ASSERT_FALSE(*relay->OnToken({0, 0, 'a'}));
  relay->OnSampleFinish({.sample = 2, .reason = FinishReason::kLength, .output_tokens = 1});
  EXPECT_THAT(sink_->texts, ElementsAre("a", "", "c"));
  EXPECT_THAT(relay->reasons(),
              ElementsAre(FinishReason::kAborted, FinishReason::kStop, FinishReason::kLength));
}

TEST_F(RelayTest, AGapOrARepeatIsAnErrorAndNothingGoesOut) {
  const auto relay = Make({});
  ASSERT_TRUE(relay->OnToken({0, 0, 'a'}).ok());
  EXPECT_TRUE(absl::IsInternal(relay->OnToken({0, 0, 'a'}).status()));
  EXPECT_TRUE(absl::IsInternal(relay->OnToken({0, 2, 'c'}).status()));
  EXPECT_TRUE(absl::IsInternal(relay->OnToken({5, 0, 'c'}).status()));
  EXPECT_EQ(sink_->texts[0], "a");
}

TEST_F(RelayTest, LogprobPiecesAreDecodedAlone) {
  const auto relay = Make({}, {}, 1, true);
  TokenOutput token{.sample = 0, .index = 0, .token = 256, .logprob = -0.5f};
  token.top_logprobs = {{256, -0.5f}, {'q', -1.5f}};
  ASSERT_TRUE(relay->OnToken(token).ok());
  EXPECT_THAT(sink_->pieces, ElementsAre("ab"));
  relay->OnPromptLogprobs({{0, 0, 'p', -2.0f, {}}});
  ASSERT_EQ(sink_->prompt.size(), 1u);
  EXPECT_EQ(sink_->prompt[0].piece, "p");
}

// Tokens that are pieces of characters, against the text as a whole.
TEST_F(RelayTest, RandomTokensGiveTheWholeTextUpToTheFirstStop) {
  const uint64_t seed = 4711;
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  const std::vector<TokenId> alphabet = {'a', 'b', 0xC3, 0xA9, 256, 257, 258, 'x'};
  const std::vector<std::string> choices = {"ab", "b\xC3\xA9", "\xC3\xA9x", "aba", "x", "bb"};
  int stopped = 0;
  for (int round = 0; round < 5'000; ++round) {
    OutputParams output;
    output.include_stop_str_in_output = random() % 2 == 0;
    for (size_t i = random() % 3; i > 0; --i) {
      output.stop.push_back(choices[random() % choices.size()]);
    }
    const auto relay = Make(output);
    std::vector<TokenId> tokens;
    bool ended = false;
    for (int i = 0; i < 12 && !ended; ++i) {
      tokens.push_back(alphabet[random() % alphabet.size()]);
      ended = *relay->OnToken({0, i, tokens.back()});
    }
    if (!ended) relay->OnSampleFinish({.sample = 0, .reason = FinishReason::kLength});
    IncrementalDetokenizer whole(tokenizer_, std::vector<TokenId>{'x'}, true);
    std::string text;
    for (const TokenId token : tokens) text += whole.Push(token);
    if (!ended) text += whole.Finish();
    size_t best_end = std::string::npos, best_begin = 0;
    for (const std::string& stop : output.stop) {
      const size_t begin = text.find(stop);
      if (begin == std::string::npos) continue;
      const size_t end = begin + stop.size();
      if (end < best_end || (end == best_end && begin < best_begin)) {
        best_end = end;
        best_begin = begin;
      }
    }
    std::string expected = text;
    if (best_end != std::string::npos) {
      expected = text.substr(0, output.include_stop_str_in_output ? best_end : best_begin);
      ++stopped;
    }
    ASSERT_EQ(sink_->texts[0], expected) << "round " << round << " of " << text;
    ASSERT_EQ(sink_->finishes.size(), 1u);
    ASSERT_EQ(sink_->finishes[0].stop_reason.empty(), best_end == std::string::npos);
  }
  EXPECT_GT(stopped, 500);
}

}  // namespace
}  // namespace baton::router
