#include "router/openai/response.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/unit/router/byte_tokenizer.h"

namespace baton {
namespace {

using nlohmann::json;

ResponseShape Shape(ApiKind kind, bool stream) {
  ResponseShape shape;
  shape.kind = kind;
  shape.id = "id-1";
  shape.model = "demo";
  shape.created_unix_s = 1700000000;
  shape.stream = stream;
  shape.prompts.push_back({.prompt_tokens = 3});
  return shape;
}

SampleDelta Letter(char letter, int32_t sample = 0) {
  SampleDelta delta{.sample = sample, .text = std::string(1, letter)};
  delta.tokens.push_back(
      {.token = letter,
       .piece = std::string(1, letter),
       .logprob = -0.5f,
       .top = {{TokenLogprob{'z', -0.25f}, "z"}, {TokenLogprob{letter, -0.5f}, {letter}}}});
  return delta;
}

SampleDelta Finished(SampleDelta delta, FinishReason reason = FinishReason::kLength) {
  delta.finished = true;
  delta.reason = reason;
  return delta;
}

class Response : public ::testing::Test {
 protected:
  std::string Chunk(StreamRenderer& renderer, const SampleDelta& delta, size_t prompt = 0) {
    std::string out;
    EXPECT_TRUE(renderer.AppendDelta(prompt, delta, out));
    return out;
  }
  ByteTokenizer tokenizer_;
};

TEST_F(Response, CompletionChunksAreExact) {
  StreamRenderer renderer(Shape(ApiKind::kCompletion, true), tokenizer_);
  EXPECT_EQ(Chunk(renderer, Letter('a')),
            R"({"id":"id-1","object":"text_completion","created":1700000000,"model":"demo",)"
            R"("choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":null,)"
            R"("stop_reason":null}]})");
  EXPECT_EQ(Chunk(renderer, Finished(Letter('b'))),
            R"({"id":"id-1","object":"text_completion","created":1700000000,"model":"demo",)"
            R"("choices":[{"index":0,"text":"b","logprobs":null,"finish_reason":"length",)"
            R"("stop_reason":null}]})");
  std::string last;
  EXPECT_FALSE(renderer.AppendLast(last)) << "usage is never sent unasked";
}

TEST_F(Response, TheRoleRidesWithTheFirstChatChunk) {
  StreamRenderer renderer(Shape(ApiKind::kChat, true), tokenizer_);
  EXPECT_EQ(Chunk(renderer, Letter('a')),
            R"({"id":"id-1","object":"chat.completion.chunk","created":1700000000,"model":"demo",)"
            R"("choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"logprobs":null,)"
            R"("finish_reason":null,"stop_reason":null}]})");
  EXPECT_EQ(json::parse(Chunk(renderer, Letter('b')))["choices"][0]["delta"],
            (json{{"content", "b"}}));
}

TEST_F(Response, StopReasonsAreStringsOrTokenIds) {
  StreamRenderer renderer(Shape(ApiKind::kChat, true), tokenizer_);
  SampleDelta by_string = Finished(Letter('a'), FinishReason::kStop);
  by_string.stop_reason = "END";
  EXPECT_EQ(json::parse(Chunk(renderer, by_string))["choices"][0]["stop_reason"], "END");
  SampleDelta by_token = Finished(Letter('a'), FinishReason::kStop);
  by_token.stop_token = 7;
  const json choice = json::parse(Chunk(renderer, by_token))["choices"][0];
  EXPECT_EQ(choice["stop_reason"], 7);
  EXPECT_EQ(choice["finish_reason"], "stop");
}

TEST_F(Response, ADeltaWithNothingToSayIsNotSent) {
  StreamRenderer renderer(Shape(ApiKind::kChat, true), tokenizer_);
  std::string out;
  EXPECT_FALSE(renderer.AppendDelta(0, SampleDelta{}, out));
  EXPECT_EQ(out, "");
}

TEST_F(Response, UsageComesInALastChunkWithoutChoices) {
  ResponseShape shape = Shape(ApiKind::kChat, true);
  shape.include_usage = true;
  shape.continuous_usage = true;
  StreamRenderer renderer(shape, tokenizer_);
  Chunk(renderer, Letter('a'));
  EXPECT_EQ(json::parse(Chunk(renderer, Letter('b')))["usage"],
            (json{{"prompt_tokens", 3}, {"completion_tokens", 2}, {"total_tokens", 5}}));
  renderer.OnFinish({.cached_tokens = 2});
  std::string last;
  ASSERT_TRUE(renderer.AppendLast(last));
  const json chunk = json::parse(last);
  EXPECT_EQ(chunk["choices"], json::array());
  EXPECT_EQ(chunk["usage"], (json{{"prompt_tokens", 3},
                                  {"completion_tokens", 2},
                                  {"total_tokens", 5},
                                  {"prompt_tokens_details", {{"cached_tokens", 2}}}}));
}

TEST_F(Response, EchoPutsThePromptBeforeEachChoice) {
  ResponseShape shape = Shape(ApiKind::kCompletion, true);
  shape.echo = true;
  shape.logprobs = true;
  shape.samples = 2;
  shape.prompts[0].echo_text = "hé";
  StreamRenderer renderer(shape, tokenizer_);
  renderer.OnPromptLogprobs(
      0, {{.token = 1, .piece = "h", .logprob = 0}, {.token = 2, .piece = "é", .logprob = -1.0f}});
  for (int32_t sample = 0; sample < 2; ++sample) {
    const json choice = json::parse(Chunk(renderer, Letter('a', sample)))["choices"][0];
    EXPECT_EQ(choice["text"], "héa");
    EXPECT_EQ(choice["index"], sample);
    EXPECT_EQ(choice["logprobs"]["tokens"], (json{"h", "é", "a"}));
    EXPECT_EQ(choice["logprobs"]["token_logprobs"], (json{nullptr, -1.0, -0.5}));
    EXPECT_EQ(choice["logprobs"]["text_offset"], (json{0, 1, 2})) << "characters, not bytes";
    EXPECT_EQ(choice["logprobs"]["top_logprobs"][0], nullptr);
    EXPECT_EQ(choice["logprobs"]["top_logprobs"][2], (json{{"z", -0.25}, {"a", -0.5}}));
    const json next = json::parse(Chunk(renderer, Letter('b', sample)))["choices"][0];
    EXPECT_EQ(next["text"], "b");
    EXPECT_EQ(next["logprobs"]["text_offset"], (json{3}));
  }
}

TEST_F(Response, ChatLogprobsCarryBytes) {
  ResponseShape shape = Shape(ApiKind::kChat, false);
  shape.logprobs = true;
  BodyRenderer renderer(shape, tokenizer_);
  renderer.OnDelta(0, Letter('a'));
  renderer.OnDelta(0, Finished(Letter('b')));
  renderer.OnFinish({});
  const json body = json::parse(renderer.Render());
  const json content = body["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 2u);
  EXPECT_EQ(content[0]["token"], "a");
  EXPECT_EQ(content[0]["bytes"], (json{97}));
  EXPECT_EQ(content[0]["top_logprobs"][0],
            (json{{"token", "z"}, {"logprob", -0.25}, {"bytes", {122}}}));
}

TEST_F(Response, ImpossibleLogprobsStayValidJson) {
  ResponseShape shape = Shape(ApiKind::kCompletion, true);
  shape.logprobs = true;
  StreamRenderer renderer(shape, tokenizer_);
  SampleDelta delta = Letter('a');
  delta.tokens[0].logprob = -std::numeric_limits<float>::infinity();
  delta.tokens[0].top.clear();
  EXPECT_EQ(json::parse(Chunk(renderer, delta))["choices"][0]["logprobs"]["token_logprobs"],
            (json{-9999}));
}

TEST_F(Response, WholeBodiesAreExact) {
  BodyRenderer completion(Shape(ApiKind::kCompletion, false), tokenizer_);
  completion.OnDelta(0, Letter('a'));
  completion.OnDelta(0, Finished(Letter('b')));
  completion.OnFinish({.cached_tokens = 1});
  EXPECT_EQ(completion.Render(),
            R"({"id":"id-1","object":"text_completion","created":1700000000,"model":"demo",)"
            R"("choices":[{"index":0,"text":"ab","logprobs":null,"finish_reason":"length",)"
            R"("stop_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":2,)"
            R"("total_tokens":5,"prompt_tokens_details":{"cached_tokens":1}}})");
  BodyRenderer chat(Shape(ApiKind::kChat, false), tokenizer_);
  chat.OnDelta(0, Finished(Letter('a'), FinishReason::kStop));
  chat.OnFinish({});
  EXPECT_EQ(chat.Render(),
            R"({"id":"id-1","object":"chat.completion","created":1700000000,"model":"demo",)"
            R"("choices":[{"index":0,"message":{"role":"assistant","content":"a"},)"
            R"("logprobs":null,"finish_reason":"stop","stop_reason":null}],)"
            R"("usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,)"
            R"("prompt_tokens_details":{"cached_tokens":0}}})");
}

TEST_F(Response, ChoicesOfABatchAreNumberedByPromptThenSample) {
  ResponseShape shape = Shape(ApiKind::kCompletion, false);
  shape.samples = 2;
  shape.return_token_ids = true;
  shape.prompts = {{.prompt_tokens = 3, .tokens = {1, 2, 3}}, {.prompt_tokens = 1, .tokens = {9}}};
  BodyRenderer renderer(shape, tokenizer_);
  renderer.OnDelta(1, Finished(Letter('d', 1)));
  renderer.OnDelta(0, Finished(Letter('a', 0)));
  renderer.OnDelta(1, Finished(Letter('c', 0)));
  renderer.OnDelta(0, Finished(Letter('b', 1)));
  renderer.OnFinish({.cached_tokens = 1});
  renderer.OnFinish({.cached_tokens = 1});
  const json body = json::parse(renderer.Render());
  std::string texts;
  for (const json& choice : body["choices"]) {
    EXPECT_EQ(choice["index"], texts.size());
    texts += choice["text"].get<std::string>();
  }
  EXPECT_EQ(texts, "abcd");
  EXPECT_EQ(body["choices"][2]["prompt_token_ids"], (json{9}));
  EXPECT_EQ(body["choices"][2]["token_ids"], (json{'c'}));
  EXPECT_EQ(body["usage"]["prompt_tokens"], 4);
  EXPECT_EQ(body["usage"]["completion_tokens"], 4);
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
}

TEST_F(Response, TimingsAreThereWhenAskedFor) {
  ResponseShape shape = Shape(ApiKind::kCompletion, true);
  shape.timings = true;
  StreamRenderer renderer(shape, tokenizer_);
  RequestSummary summary;
  summary.timings.ttft_ms = 12.5;
  summary.timings.kv_bytes = 4096;
  summary.timings.decode_worker = "decode-0";
  renderer.OnFinish(summary);
  std::string last;
  ASSERT_TRUE(renderer.AppendLast(last));
  const json chunk = json::parse(last);
  EXPECT_FALSE(chunk.contains("usage"));
  EXPECT_EQ(chunk["timings"]["ttft_ms"], 12.5);
  EXPECT_EQ(chunk["timings"]["kv_bytes"], 4096);
  EXPECT_EQ(chunk["timings"]["decode_worker"], "decode-0");
}

}  // namespace
}  // namespace baton
