// Endpoints, routing and whole answers, over real sockets.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/unit/router/http/http_fixture.h"

namespace baton {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Http : public HttpFixture {
 protected:
  void SetUp() override { Start(); }
};

TEST_F(Http, AnswersACompletionWhole) {
  const HttpReply reply =
      HttpPost(port_, "/v1/completions", R"({"prompt":"hi","max_tokens":5,"seed":3,"n":2})");
  ASSERT_EQ(reply.status, 200);
  EXPECT_EQ(reply.headers.at("content-type"), "application/json");
  const json body = json::parse(reply.body);
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_THAT(body["id"].get<std::string>(), HasSubstr("cmpl-"));
  EXPECT_EQ(body["choices"][0]["text"], FakeCompletionService::TextOf(3, 0, 5));
  EXPECT_EQ(body["choices"][1]["text"], FakeCompletionService::TextOf(3, 1, 5));
  EXPECT_EQ(body["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(body["usage"]["completion_tokens"], 10);
}

TEST_F(Http, AnswersAChatWhole) {
  const HttpReply reply = HttpPost(
      port_, "/v1/chat/completions",
      R"({"messages":[{"role":"user","content":"x"}],"max_completion_tokens":4,"seed":9})");
  ASSERT_EQ(reply.status, 200);
  const json body = json::parse(reply.body);
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][0]["message"]["content"], FakeCompletionService::TextOf(9, 0, 4));
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
}

TEST_F(Http, BatchedPromptsAreSubmittedApartAndAnsweredTogether) {
  const HttpReply reply = HttpPost(port_, "/v1/completions",
                                   R"({"prompt":["a","b","c"],"max_tokens":2,"seed":1,"n":2})");
  ASSERT_EQ(reply.status, 200);
  const json body = json::parse(reply.body);
  ASSERT_EQ(body["choices"].size(), 6u);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(body["choices"][i]["index"], i);
  EXPECT_EQ(service_.submitted().size(), 3u);
}

TEST_F(Http, ServesTheSmallEndpoints) {
  EXPECT_EQ(json::parse(HttpGet(port_, "/v1/models").body)["data"][0]["root"], "models/demo");
  EXPECT_EQ(json::parse(HttpGet(port_, "/v1/models/demo").body)["id"], "demo");
  EXPECT_EQ(HttpGet(port_, "/v1/models/other").status, 404);
  EXPECT_EQ(HttpGet(port_, "/version").body, R"({"version":"1.2.3"})");
  EXPECT_THAT(HttpGet(port_, "/").body, ::testing::StartsWith("<!doctype html>"));
  EXPECT_THAT(HttpGet(port_, "/cluster").body, ::testing::HasSubstr("\"phase\":\"ready\""));
  EXPECT_EQ(HttpGet(port_, "/livez").status, 200);
  EXPECT_EQ(HttpGet(port_, "/readyz?verbose=1").status, 200);
  EXPECT_EQ(HttpGet(port_, "/health").status, 200);
  EXPECT_EQ(json::parse(HttpPost(port_, "/tokenize", R"({"prompt":"hi"})").body)["count"], 3);
  EXPECT_EQ(HttpPost(port_, "/detokenize", R"({"tokens":[104]})").body, R"({"prompt":"h"})");
  const HttpReply metrics = HttpGet(port_, "/metrics");
  EXPECT_THAT(metrics.headers.at("content-type"), HasSubstr("version=0.0.4"));
  EXPECT_THAT(metrics.body, HasSubstr("baton_http_disconnects_total{reason=\"client_left\"} 0"));
}

TEST_F(Http, HeadHasTheHeadersOfGetAndNoBody) {
  HttpClient client(port_);
  client.Send("HEAD /version HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
  const std::string reply = client.ReadToEnd();
  EXPECT_THAT(reply, HasSubstr("Content-Length: 19\r\n"));
  EXPECT_EQ(reply.substr(reply.size() - 4), "\r\n\r\n");
}

TEST_F(Http, UnknownPathsAndMethodsAreJsonErrors) {
  const HttpReply missing = HttpGet(port_, "/v2/nothing");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(json::parse(missing.body)["error"]["code"], "not_found");
  const HttpReply wrong = HttpGet(port_, "/v1/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "POST, OPTIONS");
  EXPECT_TRUE(json::parse(wrong.body).contains("error"));
}

TEST_F(Http, RequestIdsAreEchoedOrDrawn) {
  EXPECT_EQ(HttpGet(port_, "/livez", "X-Request-Id: mine-1\r\n").headers.at("x-request-id"),
            "mine-1");
  EXPECT_EQ(HttpGet(port_, "/livez").headers.at("x-request-id").size(), 32u);
  const HttpReply reply =
      HttpPost(port_, "/v1/completions", R"({"prompt":"a","request_id":"in-body"})");
  EXPECT_EQ(reply.headers.at("x-request-id"), "in-body");
  EXPECT_EQ(json::parse(reply.body)["id"], "cmpl-in-body");
  const HttpReply drawn = HttpPost(port_, "/v1/completions", R"({"prompt":"a"})");
  EXPECT_EQ(json::parse(drawn.body)["id"], "cmpl-" + drawn.headers.at("x-request-id"));
}

TEST_F(Http, TheSloClassHeaderReachesTheRouter) {
  HttpPost(port_, "/v1/completions", R"({"prompt":"a"})", "x-slo-class: batch\r\n");
  EXPECT_EQ(service_.submitted().at(0).slo.slo_class, "batch");
  HttpPost(port_, "/v1/completions", R"({"prompt":"a"})", "Authorization: Bearer k\r\n");
  EXPECT_NE(service_.submitted().at(1).tenant, 0u);
  const auto unknown =
      HttpPost(port_, "/v1/completions", R"({"prompt":"a"})", "x-slo-class: gold\r\n");
  EXPECT_EQ(unknown.status, 400);
  EXPECT_THAT(unknown.body, ::testing::HasSubstr("default, batch"));
}

TEST_F(Http, ValidationErrorsNameTheField) {
  const HttpReply reply = HttpPost(port_, "/v1/completions", R"({"prompt":"a","n":"two"})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(json::parse(reply.body)["error"]["param"], "n");
  EXPECT_EQ(HttpPost(port_, "/v1/completions", "{not json").status, 400);
  EXPECT_EQ(HttpPost(port_, "/v1/completions", "{\"prompt\":\"\xff\"}").status, 400);
  EXPECT_EQ(HttpPost(port_, "/v1/completions", "").status, 400);
  EXPECT_EQ(HttpPost(port_, "/v1/completions", R"({"prompt":"a","model":"x"})").status, 404);
  EXPECT_TRUE(service_.submitted().empty());
}

TEST_F(Http, RouterErrorsBeforeTheFirstTokenHaveTheirStatus) {
  service_.set_script(
      {.tokens_before_hold = 0,
       .error = RequestError{RequestErrorCode::kOverloaded, "too much", absl::Seconds(7)}});
  for (const char* stream : {"false", "true"}) {
    const HttpReply reply = HttpPost(port_, "/v1/completions",
                                     std::string(R"({"prompt":"a","stream":)") + stream + "}");
    EXPECT_EQ(reply.status, 429) << stream;
    EXPECT_EQ(reply.headers.at("retry-after"), "7");
    EXPECT_EQ(json::parse(reply.body)["error"]["message"], "too much");
  }
}

TEST_F(Http, WhileLoadingOnlyHealthAnswers) {
  service_.set_readiness({ReadyPhase::kLoading, "waiting for a decode worker"});
  EXPECT_EQ(HttpGet(port_, "/livez").status, 200);
  EXPECT_EQ(HttpGet(port_, "/v1/models").status, 503);
  EXPECT_EQ(HttpPost(port_, "/v1/completions", R"({"prompt":"a"})").status, 503);
  const HttpReply ready = HttpGet(port_, "/readyz");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(json::parse(ready.body)["detail"], "waiting for a decode worker");
}

TEST_F(Http, KeepAliveServesManyRequestsOnOneConnection) {
  HttpClient client(port_);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(client.Post("/v1/completions", R"({"prompt":"a","max_tokens":2,"seed":4})"));
    const HttpReply reply = client.ReadReply();
    ASSERT_EQ(reply.status, 200);
    EXPECT_EQ(reply.headers.at("connection"), "keep-alive");
  }
}

TEST_F(Http, PipelinedRequestsAreAnsweredInOrder) {
  HttpClient client(port_);
  std::string all;
  for (int seed = 0; seed < 30; ++seed) {
    const std::string stream = seed % 3 == 0 ? "true" : "false";
    const std::string body = R"({"prompt":"a","max_tokens":3,"seed":)" + std::to_string(seed) +
                             R"(,"stream":)" + stream + "}";
    all += "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body + "GET /version HTTP/1.1\r\n\r\n";
  }
  ASSERT_TRUE(client.Send(all));
  for (int seed = 0; seed < 30; ++seed) {
    const HttpReply reply = client.ReadReply();
    ASSERT_EQ(reply.status, 200) << seed;
    const std::string text = FakeCompletionService::TextOf(static_cast<uint64_t>(seed), 0, 3);
    if (seed % 3 == 0) {
      const auto events = SseData(reply.body);
      ASSERT_EQ(events.size(), 4u);
      EXPECT_EQ(json::parse(events[0])["choices"][0]["text"], text.substr(0, 1));
    } else {
      EXPECT_EQ(json::parse(reply.body)["choices"][0]["text"], text);
    }
    EXPECT_EQ(client.ReadReply().body, R"({"version":"1.2.3"})");
  }
}

TEST_F(Http, ExpectContinueIsAnsweredBeforeTheBody) {
  HttpClient client(port_);
  const std::string body = R"({"prompt":"a","max_tokens":1})";
  client.Send("POST /v1/completions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n");
  EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.Send(body);
  EXPECT_EQ(client.ReadReply().status, 200);
}

TEST_F(Http, ChunkedBodiesAreAccepted) {
  HttpClient client(port_);
  client.Send("POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (const char c : std::string_view(R"({"prompt":"hi"})")) {
    client.Send(std::string("1\r\n") + c + "\r\n");
  }
  client.Send("0\r\n\r\n");
  EXPECT_EQ(client.ReadReply().status, 200);
}

TEST_F(Http, LargeBodiesAreParsedOffTheIoThread) {
  const std::string body = "{\"prompt\":\"" + std::string(1 << 20, 'x') + "\"}";
  const HttpReply reply = HttpPost(port_, "/tokenize", body);
  ASSERT_EQ(reply.status, 200);
  EXPECT_EQ(json::parse(reply.body)["count"], (1 << 20) + 1);
  EXPECT_EQ(HttpPost(port_, "/v1/completions", body).status, 400);  // context length
}

TEST_F(Http, Http10ClosesAfterTheAnswer) {
  HttpClient client(port_);
  client.Send("GET /version HTTP/1.0\r\n\r\n");
  EXPECT_THAT(client.ReadToEnd(), HasSubstr("Connection: close"));
}

TEST_F(HttpFixture, ATakenPortIsOneClearLine) {
  Start();
  HttpServerOptions second = options_;
  second.port = port_;
  const auto refused = TryStart(second);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr(std::to_string(port_)));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("choose another port"));
  second.host = "localhost";
  EXPECT_EQ(TryStart(second).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton
