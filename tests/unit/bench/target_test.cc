#include "bench/load/client/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton::load {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;

TEST(ParseServerUrl, TakesWhatOperatorsPaste) {
  struct Case {
    std::string text, host, port, path, authority;
  };
  for (const Case& c : {
           Case{"http://127.0.0.1:8000", "127.0.0.1", "8000", "/v1/models", "127.0.0.1:8000"},
           Case{"http://host", "host", "80", "/v1/models", "host:80"},
           Case{"http://host:9/", "host", "9", "/v1/models", "host:9"},
           Case{"http://host:9/v1", "host", "9", "/v1/models", "host:9"},
           Case{"http://host:9/llm/v1/", "host", "9", "/llm/v1/models", "host:9"},
           Case{"http://[::1]:9", "::1", "9", "/v1/models", "[::1]:9"},
       }) {
    const auto url = ParseServerUrl(c.text);
    ASSERT_TRUE(url.ok()) << url.status();
    EXPECT_EQ(url->host, c.host) << c.text;
    EXPECT_EQ(url->port, c.port) << c.text;
    EXPECT_EQ(url->Path("/v1/models"), c.path) << c.text;
    EXPECT_EQ(url->Authority(), c.authority) << c.text;
  }
}

TEST(ParseServerUrl, RefusesTheRest) {
  for (const char* text :
       {"", "localhost:8000", "https://host", "http://", "http://:80", "http://host:0",
        "http://host:99999", "http://host:x", "http://ho st", "http://[::1", "http://a\r\nb"}) {
    const auto url = ParseServerUrl(text);
    EXPECT_TRUE(absl::IsInvalidArgument(url.status())) << text;
    EXPECT_THAT(std::string(url.status().message()), HasSubstr("base_url"));
  }
}

TEST(ParseHeader, CannotBreakTheFraming) {
  EXPECT_THAT(*ParseHeader("Authorization: Bearer x:y"), Pair("Authorization", "Bearer x:y"));
  for (const char* text : {"", "no colon", ": value", "a b: c", "a: b\r\nc: d", "a\n: b"}) {
    EXPECT_FALSE(ParseHeader(text).ok()) << text;
  }
}

TEST(RenderPost, IsOneWholeRequest) {
  Target target;
  target.url = {.host = "h", .port = "8", .base_path = "/llm"};
  target.headers = {{"x-key", "k"}};
  EXPECT_EQ(RenderPost(target, "chat", "{}"),
            "POST /llm/v1/completions HTTP/1.1\r\nHost: h:8\r\nConnection: keep-alive\r\n"
            "x-key: k\r\nx-slo-class: chat\r\nContent-Type: application/json\r\n"
            "Content-Length: 2\r\n\r\n{}");
  target.body.endpoint = Endpoint::kChat;
  const std::string chat = RenderPost(target, "", "{}");
  EXPECT_THAT(chat, HasSubstr("POST /llm/v1/chat/completions "));
  EXPECT_THAT(chat, ::testing::Not(HasSubstr("x-slo-class")));
}

}  // namespace
}  // namespace baton::load
