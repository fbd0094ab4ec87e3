// Parses bodies against a small fake model: 258 byte tokens, 64 tokens of context.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "router/openai/request.h"
#include "tests/unit/router/byte_tokenizer.h"

namespace baton {

class ParseFixture : public ::testing::Test {
 protected:
  ParseContext Context() {
    return ParseContext{
        .tokenizer = tokenizer_,
        .render_chat = render_chat_,
        .ids = ids_,
        .model = {.name = "demo", .root = "models/demo", .max_model_len = 64, .vocab_size = 258},
        .limits = {.slo_classes = {"default", "interactive", "batch"}},
        .timeout = absl::Seconds(30),
        .now_unix_s = 1700000000,
        .on_unknown_field = [this](std::string_view field) { unknown_.emplace_back(field); }};
  }
  ApiResult<ApiRequest> Completion(std::string_view body) {
    return ParseCompletionRequest(body, headers_, Context());
  }
  ApiResult<ApiRequest> Chat(std::string_view body) {
    return ParseChatRequest(body, headers_, Context());
  }
  // The only submission of a body that must parse.
  RoutedRequest Routed(ApiResult<ApiRequest> result) {
    EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().message);
    if (!result.ok() || result.value().prompts.empty()) return {};
    EXPECT_EQ(result.value().prompts.size(), 1u);
    return result.value().prompts.front();
  }

  ByteTokenizer tokenizer_;
  IdSource ids_{42};
  RequestHeaders headers_;
  std::vector<std::string> unknown_;
  std::string rendered_context_;  // what the template was given last
  ChatRenderer render_chat_ = [this](std::string_view context) {
    rendered_context_ = context;
    return absl::StatusOr<std::string>("<s>user: hi!\nassistant:");
  };
};

}  // namespace baton
