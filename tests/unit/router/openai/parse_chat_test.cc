#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "router/openai/tokenize_api.h"
#include "tests/unit/router/openai/parse_fixture.h"

namespace baton {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ChatParse : public ParseFixture {
 protected:
  // A body with one user message and `more` fields.
  ApiResult<ApiRequest> With(const std::string& more) {
    return Chat(R"({"messages":[{"role":"user","content":"hi!"}])" + more + "}");
  }
};

TEST_F(ChatParse, TheTemplateSeesMessagesAndSpecialTokens) {
  const RoutedRequest request = Routed(Chat(
      R"({"messages":[{"role":"system","content":"s","name":"n"},
         {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
         {"role":"assistant","content":null}]})"));
  const json context = json::parse(rendered_context_);
  EXPECT_EQ(context["messages"][0], (json{{"role", "system"}, {"content", "s"}, {"name", "n"}}));
  EXPECT_EQ(context["messages"][1]["content"], "ab");
  EXPECT_EQ(context["messages"][2]["content"], "");
  EXPECT_EQ(context["add_generation_prompt"], true);
  EXPECT_EQ(context["bos_token"], "<s>");
  EXPECT_EQ(context["eos_token"], "</s>");
  // The rendered special token is recognised and no second one is added.
  EXPECT_EQ(request.spec.tokens.front(), ByteTokenizer::kBos);
  EXPECT_EQ(request.spec.tokens[1], 'u');
}

TEST_F(ChatParse, WithoutMaxTokensTheRestOfTheContextIsAllowed) {
  const RoutedRequest request = Routed(With(""));
  EXPECT_EQ(request.spec.stopping.max_tokens, 64 - request.spec.prompt_length);
}

TEST_F(ChatParse, MaxCompletionTokensGoesBeforeMaxTokens) {
  EXPECT_EQ(Routed(With(R"(,"max_tokens":5,"max_completion_tokens":6)")).spec.stopping.max_tokens,
            6);
  EXPECT_EQ(Routed(With(R"(,"max_tokens":5)")).spec.stopping.max_tokens, 5);
  auto over = With(R"(,"max_completion_tokens":1000)");
  ASSERT_FALSE(over.ok());
  EXPECT_EQ(over.error().param, "max_completion_tokens");
  EXPECT_THAT(over.error().message, HasSubstr("maximum context length is 64 tokens"));
}

TEST_F(ChatParse, LogprobsAreABooleanAndTopLogprobsACount) {
  EXPECT_EQ(Routed(With("")).spec.sampling.num_logprobs, -1);
  EXPECT_EQ(Routed(With(R"(,"logprobs":true)")).spec.sampling.num_logprobs, 0);
  EXPECT_EQ(Routed(With(R"(,"logprobs":true,"top_logprobs":4)")).spec.sampling.num_logprobs, 4);
}

TEST_F(ChatParse, TemplateArgumentsArePassedOn) {
  EXPECT_TRUE(
      With(R"(,"chat_template_kwargs":{"enable_thinking":false},"add_generation_prompt":false)")
          .ok());
  const json context = json::parse(rendered_context_);
  EXPECT_EQ(context["enable_thinking"], false);
  EXPECT_EQ(context["add_generation_prompt"], false);
}

TEST_F(ChatParse, ContinuingTheFinalMessageCutsBehindIt) {
  const RoutedRequest request = Routed(With(R"(,"continue_final_message":true)"));
  EXPECT_EQ(tokenizer_.Decode(request.spec.tokens, true), "user: hi!");
  EXPECT_EQ(json::parse(rendered_context_)["add_generation_prompt"], false);
}

TEST_F(ChatParse, ToolsAreNeverSilentlyDropped) {
  const std::string tools = R"(,"tools":[{"type":"function","function":{"name":"f"}}])";
  auto refused = With(tools);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().param, "tools");
  EXPECT_TRUE(With(tools + R"(,"tool_choice":"none")").ok());
  EXPECT_TRUE(With(R"(,"tools":[],"tool_choice":"auto")").ok());
}

TEST_F(ChatParse, BadFieldsAreRefusedByName) {
  struct Refused {
    const char* more;
    const char* param;
    const char* message;
  };
  const Refused cases[] = {
      {R"(,"logprobs":3)", "logprobs", "a boolean"},
      {R"(,"top_logprobs":3)", "top_logprobs", "logprobs is true"},
      {R"(,"logprobs":true,"top_logprobs":21)", "top_logprobs", "at most 20"},
      {R"(,"tool_choice":"required")", "tool_choice", "none"},
      {R"(,"tool_choice":{"type":"function"})", "tool_choice", "none"},
      {R"(,"functions":[{}])", "functions", "not supported"},
      {R"(,"modalities":["audio"])", "modalities", "text"},
      {R"(,"response_format":{"type":"json_schema"})", "response_format", "text"},
      {R"(,"chat_template_kwargs":{"messages":[]})", "chat_template_kwargs", "messages"},
      {R"(,"chat_template_kwargs":[])", "chat_template_kwargs", "an object"},
      {R"(,"continue_final_message":true,"add_generation_prompt":true)", "continue_final_message",
       "cannot both"},
      {R"(,"echo":true)", "echo", "not supported"},
  };
  for (const Refused& bad : cases) {
    auto result = With(bad.more);
    ASSERT_FALSE(result.ok()) << bad.more;
    EXPECT_EQ(result.error().http_status, 400) << bad.more;
    EXPECT_EQ(result.error().param, bad.param) << bad.more;
    EXPECT_THAT(result.error().message, HasSubstr(bad.message)) << bad.more;
  }
}

TEST_F(ChatParse, BadMessagesAreRefusedByPosition) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", "messages"},
      {R"({"messages":[]})", "messages"},
      {R"({"messages":"hi"})", "messages"},
      {R"({"messages":["hi"]})", "messages[0]"},
      {R"({"messages":[{"role":"user","content":"a"},{"content":"x"}]})", "messages[1].role"},
      {R"({"messages":[{"role":5,"content":"x"}]})", "messages[0].role"},
      {R"({"messages":[{"role":"user","content":5}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})", "messages[0].content"},
      {R"({"messages":[{"role":"user","content":[5]}]})", "messages[0].content"},
      {R"({"messages":[{"role":"assistant","tool_calls":[{"id":"1"}]}]})",
       "messages[0].tool_calls"}};
  for (const auto& [body, param] : cases) {
    auto result = Chat(body);
    ASSERT_FALSE(result.ok()) << body;
    EXPECT_EQ(result.error().http_status, 400) << body;
    EXPECT_EQ(result.error().param, param) << body;
  }
}

TEST_F(ChatParse, WhatTheTemplateRefusesIs400) {
  render_chat_ = [](std::string_view) {
    return absl::StatusOr<std::string>(absl::InvalidArgumentError("roles must alternate"));
  };
  auto result = With("");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().http_status, 400);
  EXPECT_THAT(result.error().message, HasSubstr("roles must alternate"));
  render_chat_ = nullptr;
  auto none = With("");
  ASSERT_FALSE(none.ok());
  EXPECT_THAT(none.error().message, HasSubstr("no chat template"));
}

TEST_F(ChatParse, TokenizeAndDetokenizeAreInverse) {
  auto tokens = Tokenize(R"({"prompt":"hi"})", Context());
  ASSERT_TRUE(tokens.ok());
  EXPECT_EQ(
      tokens.value(),
      R"({"count":3,"max_model_len":64,"tokens":[256,104,105],"token_strs":["<s>","h","i"]})");
  auto text = Detokenize(R"({"tokens":[104,105]})", Context());
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text.value(), R"({"prompt":"hi"})");
  EXPECT_TRUE(Tokenize(R"({"messages":[{"role":"user","content":"x"}]})", Context()).ok());
}

TEST_F(ChatParse, TokenizeRefusesBadInput) {
  EXPECT_EQ(Tokenize(R"({})", Context()).error().param, "prompt");
  EXPECT_EQ(Tokenize(R"({"prompt":["a"]})", Context()).error().param, "prompt");
  EXPECT_EQ(Tokenize(R"({"prompt":"a","model":"other"})", Context()).error().http_status, 404);
  EXPECT_EQ(Detokenize(R"({})", Context()).error().param, "tokens");
  EXPECT_EQ(Detokenize(R"({"tokens":[999]})", Context()).error().param, "tokens");
}

}  // namespace
}  // namespace baton
