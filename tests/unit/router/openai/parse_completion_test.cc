#include <gmock/gmock.h>

#include "tests/unit/router/openai/parse_fixture.h"

namespace baton {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

using CompletionParse = ParseFixture;

TEST_F(CompletionParse, DefaultsAreThoseOfTheApi) {
  const RoutedRequest request = Routed(Completion(R"({"prompt":"hi"})"));
  EXPECT_THAT(request.spec.tokens, ElementsAre(ByteTokenizer::kBos, 'h', 'i'));
  EXPECT_EQ(request.spec.prompt_length, 3);
  EXPECT_EQ(request.spec.num_samples, 1);
  EXPECT_EQ(request.spec.stopping.max_tokens, 16);
  EXPECT_EQ(request.spec.sampling.temperature, 1.0f);
  EXPECT_EQ(request.spec.sampling.top_p, 1.0f);
  EXPECT_EQ(request.spec.sampling.top_k, 0);
  EXPECT_EQ(request.spec.sampling.num_logprobs, -1);
  EXPECT_EQ(request.spec.sampling.num_prompt_logprobs, -1);
  EXPECT_EQ(request.spec.cache_salt, 0u);
  EXPECT_TRUE(request.output.skip_special_tokens);
  EXPECT_EQ(request.timeout, absl::Seconds(30));
}

TEST_F(CompletionParse, EveryOptionalFieldAcceptsNull) {
  const char* const fields[] = {"model",
                                "max_tokens",
                                "temperature",
                                "top_p",
                                "n",
                                "stream",
                                "stream_options",
                                "stop",
                                "seed",
                                "logprobs",
                                "echo",
                                "logit_bias",
                                "presence_penalty",
                                "frequency_penalty",
                                "best_of",
                                "suffix",
                                "user",
                                "top_k",
                                "min_p",
                                "repetition_penalty",
                                "stop_token_ids",
                                "include_stop_str_in_output",
                                "ignore_eos",
                                "min_tokens",
                                "skip_special_tokens",
                                "truncate_prompt_tokens",
                                "return_token_ids",
                                "priority",
                                "request_id",
                                "cache_salt",
                                "slo",
                                "slo_class",
                                "timings",
                                "response_format",
                                "add_special_tokens"};
  for (const char* field : fields) {
    auto result = Completion(std::string(R"({"prompt":"hi",")") + field + "\":null}");
    EXPECT_TRUE(result.ok()) << field << ": " << (result.ok() ? "" : result.error().message);
    EXPECT_TRUE(unknown_.empty()) << field << " is not known";
  }
}

TEST_F(CompletionParse, EveryFieldReachesTheRequest) {
  const RoutedRequest request = Routed(Completion(R"({
    "model":"demo","prompt":"hi","max_tokens":7,"temperature":0.5,"top_p":0.9,"n":3,"seed":-1,
    "stop":["a","bb"],"logprobs":2,"echo":true,"logit_bias":{"5":-3.5},"presence_penalty":0.25,
    "frequency_penalty":-0.25,"best_of":3,"user":"me","top_k":40,"min_p":0.125,
    "repetition_penalty":1.5,"stop_token_ids":[1,2],"include_stop_str_in_output":true,
    "ignore_eos":true,"min_tokens":2,"skip_special_tokens":false,"return_token_ids":true,
    "priority":-4,"request_id":"abc","cache_salt":"tenant","slo":{"ttft_ms":100,"tpot_ms":20.5}})"));
  const SamplingParams& sampling = request.spec.sampling;
  EXPECT_EQ(request.spec.stopping.max_tokens, 7);
  EXPECT_EQ(sampling.temperature, 0.5f);
  EXPECT_EQ(sampling.top_p, 0.9f);
  EXPECT_EQ(request.spec.num_samples, 3);
  EXPECT_EQ(sampling.seed, UINT64_MAX);
  EXPECT_THAT(request.output.stop, ElementsAre("a", "bb"));
  EXPECT_EQ(sampling.num_logprobs, 2);
  EXPECT_EQ(sampling.num_prompt_logprobs, 2);
  EXPECT_THAT(sampling.logit_bias, ElementsAre(Pair(5, -3.5f)));
  EXPECT_EQ(sampling.presence_penalty, 0.25f);
  EXPECT_EQ(sampling.frequency_penalty, -0.25f);
  EXPECT_EQ(sampling.top_k, 40);
  EXPECT_EQ(sampling.min_p, 0.125f);
  EXPECT_EQ(sampling.repetition_penalty, 1.5f);
  EXPECT_THAT(request.spec.stopping.stop_token_ids, ElementsAre(1, 2));
  EXPECT_TRUE(request.output.include_stop_str_in_output);
  EXPECT_TRUE(request.spec.stopping.ignore_eos);
  EXPECT_EQ(request.spec.stopping.min_tokens, 2);
  EXPECT_FALSE(request.output.skip_special_tokens);
  EXPECT_EQ(request.priority, -4);
  EXPECT_EQ(request.external_id, "abc");
  EXPECT_NE(request.spec.cache_salt, 0u);
  EXPECT_EQ(request.slo.ttft_ms, 100.0);
  EXPECT_EQ(request.slo.tpot_ms, 20.5);
  EXPECT_TRUE(unknown_.empty());
}

TEST_F(CompletionParse, TinyNumbersAreNoSmallerThanWorkersTake) {
  for (const char* tiny : {"1e-7", "1e-30", "1e-300"}) {
    const SamplingParams sampling =
        Routed(Completion(absl::StrCat(R"({"prompt":"a","top_p":)", tiny,
                                       R"(,"repetition_penalty":)", tiny, "}")))
            .spec.sampling;
    EXPECT_EQ(sampling.top_p, kSmallestPositive) << tiny;
    EXPECT_EQ(sampling.repetition_penalty, kSmallestPositive) << tiny;
  }
}

struct Refused {
  const char* body;
  const char* param;
  const char* message;  // a part of it
};

TEST_F(CompletionParse, BadFieldsAreRefusedByNameAndLimit) {
  const Refused cases[] = {
      {R"({})", "prompt", "required"},
      {R"({"prompt":null})", "prompt", "required"},
      {R"({"prompt":5})", "prompt", "must be a string"},
      {R"({"prompt":[]})", "prompt", "not empty"},
      {R"({"prompt":[[]]})", "prompt", "empty"},
      {R"({"prompt":["a",[1]]})", "prompt", "must be"},
      {R"({"prompt":["a",7]})", "prompt", "must be"},
      {R"({"prompt":[1,"a"]})", "prompt", "integers"},
      {R"({"prompt":[true]})", "prompt", "must be"},
      {R"({"prompt":[258]})", "prompt", "0 to 257"},
      {R"({"prompt":[-1]})", "prompt", "0 to 257"},
      {R"({"prompt":[1.5]})", "prompt", "integers"},
      {R"({"prompt":"a","max_tokens":0})", "max_tokens", "at least 1"},
      {R"({"prompt":"a","max_tokens":"5"})", "max_tokens", "an integer, not string"},
      {R"({"prompt":"a","max_tokens":true})", "max_tokens", "an integer"},
      {R"({"prompt":"a","max_tokens":99999999999999999999})", "max_tokens", "an integer"},
      {R"({"prompt":"a","temperature":2.5})", "temperature", "at most 2"},
      {R"({"prompt":"a","temperature":-0.1})", "temperature", "at least 0"},
      {R"({"prompt":"a","temperature":"hot"})", "temperature", "a number"},
      {R"({"prompt":"a","top_p":0})", "top_p", "greater than 0"},
      {R"({"prompt":"a","top_p":1.1})", "top_p", "at most 1"},
      {R"({"prompt":"a","top_k":-2})", "top_k", "at least -1"},
      {R"({"prompt":"a","min_p":2})", "min_p", "at most 1"},
      {R"({"prompt":"a","n":0})", "n", "at least 1"},
      {R"({"prompt":"a","n":129})", "n", "at most 128"},
      {R"({"prompt":["a","b","c"],"n":100})", "n", "at most 256"},
      {R"({"prompt":"a","n":2,"best_of":3})", "best_of", "value of n, 2"},
      {R"({"prompt":"a","presence_penalty":2.1})", "presence_penalty", "at most 2"},
      {R"({"prompt":"a","frequency_penalty":-2.1})", "frequency_penalty", "at least -2"},
      {R"({"prompt":"a","repetition_penalty":0})", "repetition_penalty", "greater than 0"},
      {R"({"prompt":"a","logprobs":21})", "logprobs", "at most 20"},
      {R"({"prompt":"a","logprobs":true})", "logprobs", "an integer"},
      {R"({"prompt":"a","echo":1})", "echo", "a boolean"},
      {R"({"prompt":"a","stream":"yes"})", "stream", "a boolean"},
      {R"({"prompt":"a","stream_options":{"include_usage":true}})", "stream_options", "stream"},
      {R"({"prompt":"a","stream":true,"stream_options":{"include_usage":1}})",
       "stream_options.include_usage", "a boolean"},
      {R"({"prompt":"a","stop":""})", "stop", "1 to 1024"},
      {R"({"prompt":"a","stop":5})", "stop", "a string"},
      {R"({"prompt":"a","stop":["a",5]})", "stop", "a string"},
      {R"({"prompt":"a","stop":["","","","","","","","","","","","","","","","",""]})", "stop",
       "at most 16"},
      {R"({"prompt":"a","stop_token_ids":[300]})", "stop_token_ids", "0 to 257"},
      {R"({"prompt":"a","logit_bias":{"x":1}})", "logit_bias", "token ids"},
      {R"({"prompt":"a","logit_bias":{"258":1}})", "logit_bias", "0 to 257"},
      {R"({"prompt":"a","logit_bias":{"5":101}})", "logit_bias", "at most 100"},
      {R"({"prompt":"a","logit_bias":{"5":"x"}})", "logit_bias", "numbers"},
      {R"({"prompt":"a","logit_bias":[1]})", "logit_bias", "an object"},
      {R"({"prompt":"a","min_tokens":17})", "min_tokens", "must not exceed max_tokens, 16"},
      {R"({"prompt":"a","truncate_prompt_tokens":0})", "truncate_prompt_tokens", "at least 1"},
      {R"({"prompt":"a","truncate_prompt_tokens":65})", "truncate_prompt_tokens", "at most 64"},
      {R"({"prompt":"a","seed":1.5})", "seed", "an integer"},
      {R"({"prompt":"a","suffix":"end"})", "suffix", "not supported"},
      {R"({"prompt":"a","response_format":{"type":"json_object"}})", "response_format", "text"},
      {R"({"prompt":"a","guided_regex":"a+"})", "guided_regex", "not supported"},
      {R"({"prompt":"a","priority":3000000000})", "priority", "at most"},
      {R"({"prompt":"a","request_id":"two words"})", "request_id", "printable"},
      {R"({"prompt":"a","slo":5})", "slo", "an object"},
      {R"({"prompt":"a","slo":{"tpot_ms":4e6}})", "slo.tpot_ms", "at most 3.6e+06"},
      {R"({"prompt":"a","slo_class":"gold"})", "slo_class",
       "'gold'; the SLO classes are default, interactive, batch"},
      {R"({"prompt":"a","slo_class":5})", "slo_class", "a string"},
      {R"({"prompt":"a","slo":{"ttft_ms":0}})", "slo.ttft_ms", "greater than 0"},
      {R"({"prompt":["a","b"],"timings":true})", "timings", "single prompt"},
      {R"({"prompt":"a","model":5})", "model", "a string"},
  };
  for (const Refused& bad : cases) {
    auto result = Completion(bad.body);
    ASSERT_FALSE(result.ok()) << bad.body;
    EXPECT_EQ(result.error().http_status, 400) << bad.body;
    EXPECT_EQ(result.error().type, "invalid_request_error") << bad.body;
    EXPECT_EQ(result.error().param, bad.param) << bad.body;
    EXPECT_THAT(result.error().message, HasSubstr(bad.message)) << bad.body;
  }
}

TEST_F(CompletionParse, AnotherModelIs404) {
  auto result = Completion(R"({"prompt":"a","model":"gpt-4"})");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().http_status, 404);
  EXPECT_EQ(result.error().code, "model_not_found");
  EXPECT_EQ(result.error().param, "model");
}

TEST_F(CompletionParse, ContextOverflowNamesTheLimit) {
  auto asked = Completion(R"({"prompt":"a","max_tokens":63})");
  ASSERT_FALSE(asked.ok());
  EXPECT_THAT(asked.error().message, HasSubstr("maximum context length is 64 tokens"));
  EXPECT_EQ(asked.error().code, "context_length_exceeded");
  auto whole = Completion("{\"prompt\":\"" + std::string(63, 'x') + "\"}");
  ASSERT_FALSE(whole.ok());
  EXPECT_THAT(whole.error().message, HasSubstr("maximum context length is 64 tokens"));
  // The default is not the client's wish: it shrinks to what is left.
  const auto fits = Routed(Completion("{\"prompt\":\"" + std::string(61, 'x') + "\"}"));
  EXPECT_EQ(fits.spec.stopping.max_tokens, 2);
}

TEST_F(CompletionParse, TruncationKeepsTheLastTokens) {
  auto result =
      Completion(R"({"prompt":"abcdef","truncate_prompt_tokens":2,"echo":true,"max_tokens":1})");
  ASSERT_TRUE(result.ok());
  EXPECT_THAT(result.value().prompts[0].spec.tokens, ElementsAre('e', 'f'));
  EXPECT_EQ(result.value().prompts[0].spec.prompt_length, 2);
  EXPECT_EQ(result.value().shape.prompts[0].echo_text, "ef");
}

TEST_F(CompletionParse, PromptsMayBeTextTokensOrBatches) {
  EXPECT_THAT(Routed(Completion(R"({"prompt":[104,105]})")).spec.tokens, ElementsAre('h', 'i'));
  auto texts = Completion(R"({"prompt":["a","b"],"n":2})");
  ASSERT_TRUE(texts.ok());
  ASSERT_EQ(texts.value().prompts.size(), 2u);
  EXPECT_EQ(texts.value().prompts[1].spec.tokens.back(), 'b');
  EXPECT_EQ(texts.value().shape.samples, 2);
  auto tokens = Completion(R"({"prompt":[[97],[98,99]]})");
  ASSERT_TRUE(tokens.ok());
  EXPECT_THAT(tokens.value().prompts[1].spec.tokens, ElementsAre('b', 'c'));
  EXPECT_EQ(tokens.value().shape.prompts[1].prompt_tokens, 2);
}

TEST_F(CompletionParse, UnknownFieldsAreReportedAndIgnored) {
  EXPECT_TRUE(Completion(R"({"prompt":"a","frobnicate":{"deep":[1]}})").ok());
  EXPECT_THAT(unknown_, ElementsAre("frobnicate"));
}

TEST_F(CompletionParse, AbsentSeedsAreDrawnFromTheSource) {
  const uint64_t first = Routed(Completion(R"({"prompt":"a"})")).spec.sampling.seed;
  const uint64_t second = Routed(Completion(R"({"prompt":"a"})")).spec.sampling.seed;
  EXPECT_NE(first, second);
  EXPECT_EQ(Routed(Completion(R"({"prompt":"a","seed":5})")).spec.sampling.seed, 5u);
}

TEST_F(CompletionParse, TheTenantIsTheKeyElseTheUserElseTheSalt) {
  EXPECT_EQ(Routed(Completion(R"({"prompt":"a"})")).tenant, 0u);
  const uint64_t salt = Routed(Completion(R"({"prompt":"a","cache_salt":"x"})")).tenant;
  const uint64_t user = Routed(Completion(R"({"prompt":"a","cache_salt":"x","user":"x"})")).tenant;
  headers_.authorization = "x";
  const uint64_t key = Routed(Completion(R"({"prompt":"a","cache_salt":"x","user":"x"})")).tenant;
  EXPECT_NE(salt, 0u);
  EXPECT_NE(user, salt) << "equal names of different kinds are different tenants";
  EXPECT_NE(key, user);
  EXPECT_EQ(Routed(Completion(R"({"prompt":"b","user":"y"})")).tenant, key) << "users share a key";
}

TEST_F(CompletionParse, HeadersNameTheRequestAndItsSloClass) {
  headers_ = {.request_id = "from-header", .slo_class = "interactive"};
  const RoutedRequest request = Routed(Completion(R"({"prompt":"a"})"));
  EXPECT_EQ(request.external_id, "from-header");
  EXPECT_EQ(request.slo.slo_class, "interactive");
  EXPECT_EQ(Routed(Completion(R"({"prompt":"a","request_id":"mine"})")).external_id, "mine");
  EXPECT_EQ(Routed(Completion(R"({"prompt":"a","slo_class":"batch"})")).slo.slo_class, "batch")
      << "the body goes before the header";
  headers_.slo_class = "gold";
  const auto refused = Completion(R"({"prompt":"a"})");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().http_status, 400);
  EXPECT_EQ(refused.error().param, "x-slo-class");
  headers_.slo_class.clear();
  headers_.request_id = "bad id\r\n";
  EXPECT_EQ(Routed(Completion(R"({"prompt":"a"})")).external_id.size(), 32u);
}

TEST_F(CompletionParse, SaltsDifferOnlyWhenTheTextDiffers) {
  const auto salt = [&](const char* text) {
    return Routed(Completion(std::string(R"({"prompt":"a","cache_salt":")") + text + "\"}"))
        .spec.cache_salt;
  };
  EXPECT_EQ(salt("x"), salt("x"));
  EXPECT_NE(salt("x"), salt("y"));
  EXPECT_EQ(salt(""), 0u);
}

TEST_F(CompletionParse, BytesThatAreNoJsonObjectAreRefused) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "not valid JSON"},
      {"{", "not valid JSON"},
      {"{\"prompt\":\"a\"} x", "not valid JSON"},
      {std::string("{\"prompt\":\"a\"}\0", 15), "not valid JSON at byte 14"},
      {std::string("{\"prompt\":\"a\"}\0 x", 17), "not valid JSON at byte 14"},
      {"[1]", "must be a JSON object, not array"},
      {"\"text\"", "must be a JSON object"},
      {"{\"prompt\":\"\xff\"}", "not valid UTF-8 at byte 11"},
      {"{\"prompt\":\"\xed\xa0\x80\"}", "not valid UTF-8"},
      {"{\"prompt\":\"\\ud800\"}", "not valid JSON"},
      {"{\"prompt\":\"a\",\"temperature\":1e999}", "not valid JSON"},
      {"{\"a\":" + std::string(200, '[') + std::string(200, ']') + "}", "deeper than 64"},
      {"{\"prompt\":[1" + std::string(1'000'001, ',') + "]}", "more than 1000000 values"},
  };
  for (const auto& [body, message] : cases) {
    auto result = Completion(body);
    ASSERT_FALSE(result.ok()) << body.substr(0, 40);
    EXPECT_EQ(result.error().http_status, 400);
    EXPECT_THAT(result.error().message, HasSubstr(message)) << body.substr(0, 40);
  }
}

TEST_F(CompletionParse, BracketsInsideStringsDoNotCountAsNesting) {
  const std::string text = std::string(100, '[') + "\\\"" + std::string(100, '{');
  EXPECT_TRUE(
      Completion("{\"prompt\":\"a\",\"user\":\"" + text + "\",\"truncate_prompt_tokens\":1}").ok());
}

}  // namespace
}  // namespace baton
