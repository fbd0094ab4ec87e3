// What hostile or broken clients meet.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "tests/unit/router/http/http_fixture.h"

namespace baton {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class HttpLimits : public HttpFixture {};

TEST_F(HttpLimits, OversizeBodiesAre413AndTheClientSeesIt) {
  options_.max_body_bytes = 1000;
  Start();
  // The whole body is sent before the answer is read: it must not be lost to a reset.
  const HttpReply reply =
      HttpPost(port_, "/v1/completions", "{\"prompt\":\"" + std::string(4 << 20, 'x') + "\"}");
  ASSERT_EQ(reply.status, 413);
  EXPECT_THAT(json::parse(reply.body)["error"]["message"].get<std::string>(), HasSubstr("1000"));
  EXPECT_EQ(reply.headers.at("connection"), "close");
}

TEST_F(HttpLimits, OversizeChunkedBodiesAre413) {
  options_.max_body_bytes = 1000;
  Start();
  HttpClient client(port_);
  client.Send("POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 5; ++i) client.Send("100\r\n" + std::string(256, 'x') + "\r\n");
  EXPECT_EQ(client.ReadReply().status, 413);
}

TEST_F(HttpLimits, HeadsHaveASizeAndACount) {
  options_.max_header_bytes = 2048;
  options_.max_header_count = 10;
  Start();
  EXPECT_EQ(HttpGet(port_, "/livez", "X-Long: " + std::string(3000, 'a') + "\r\n").status, 431);
  std::string many;
  for (int i = 0; i < 11; ++i) many += "X-" + std::to_string(i) + ": 1\r\n";
  EXPECT_EQ(HttpGet(port_, "/livez", many).status, 431);
}

TEST_F(HttpLimits, BrokenFramingIs400AndCloses) {
  Start();
  for (const char* bytes :
       {"garbage\r\n\r\n", "GET\r\n\r\n", "GET /livez HTTP/1.1\r\nBad Header: x\r\n\r\n",
        "POST /tokenize HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "POST /tokenize HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    HttpClient client(port_);
    client.Send(bytes);
    const HttpReply reply = client.ReadReply();
    EXPECT_EQ(reply.status, 400) << bytes;
    EXPECT_EQ(client.ReadToEnd(), "") << bytes;
  }
}

TEST_F(HttpLimits, SlowHeadsAndBodiesAreCut) {
  options_.head_timeout = absl::Milliseconds(100);
  options_.body_timeout = absl::Milliseconds(100);
  Start();
  HttpClient slow_head(port_);
  slow_head.Send("GET /livez HT");
  EXPECT_EQ(slow_head.ReadReply().status, 408);
  HttpClient slow_body(port_);
  slow_body.Send("POST /tokenize HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");
  EXPECT_EQ(slow_body.ReadReply().status, 408);
  EXPECT_EQ(Metric("baton_http_disconnects_total{reason=\"timeout\"}"), 2);
}

TEST_F(HttpLimits, IdleConnectionsAreClosed) {
  options_.idle_timeout = absl::Milliseconds(100);
  Start();
  HttpClient fresh(port_);
  EXPECT_EQ(fresh.ReadToEnd(), "");
  HttpClient used(port_);
  used.Get("/livez");
  EXPECT_EQ(used.ReadReply().status, 200);
  EXPECT_EQ(used.ReadToEnd(), "");
}

TEST_F(HttpLimits, MoreConnectionsThanAllowedAreToldSo) {
  options_.max_connections = 2;
  Start();
  HttpClient first(port_), second(port_);
  for (HttpClient* client : {&first, &second}) {
    client->Get("/livez");
    ASSERT_EQ(client->ReadReply().status, 200);
  }
  HttpClient third(port_);
  EXPECT_THAT(third.ReadToEnd(), HasSubstr("too_many_connections"));
  EXPECT_EQ(Metric("baton_http_disconnects_total{reason=\"over_limit\"}"), 1);
}

// A request that is under way when the connection is refused must not turn the answer into a reset.
TEST_F(HttpLimits, AConnectionTooManyGetsItsAnswerThoughItsRequestIsNotRead) {
  options_.max_connections = 1;
  Start();
  HttpClient first(port_);
  first.Get("/livez");
  ASSERT_EQ(first.ReadReply().status, 200);
  for (int i = 0; i < 20; ++i) {
    HttpClient client(port_);
    client.Post("/v1/completions", "{\"prompt\":\"" + std::string(1 << 20, 'x') + "\"}");
    const HttpReply reply = client.ReadReply();
    ASSERT_EQ(reply.status, 503) << "connection " << i;
    EXPECT_EQ(reply.headers.at("retry-after"), "1");
  }
}

TEST_F(HttpLimits, BodiesOfAllTogetherHaveABound) {
  options_.max_waiting_body_bytes = 1 << 20;
  options_.linger_timeout = absl::Milliseconds(100);
  Start();
  const std::string head = "POST /v1/completions HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n";
  HttpClient first(port_), second(port_);
  first.Send(head + std::string(600 << 10, 'x'));
  first.SetSendTimeout(100);
  // The two together are over it, whichever comes last.
  second.Send(head + std::string(600 << 10, 'x'));
  while (Metric("baton_http_responses_total{status=\"4xx\"}") == 0) {
    EXPECT_EQ(HttpPost(port_, "/tokenize", R"({"prompt":"small"})").status, 200);
  }
  EXPECT_EQ(Metric("baton_http_responses_total{status=\"4xx\"}"), 1);
  first.Close();
  second.Close();
  while (Metric("baton_http_connections") > 0) std::this_thread::yield();
  // What they held is free again.
  const std::string large = R"({"prompt":")" + std::string(400 << 10, 'x') + "\"}";
  for (int i = 0; i < 5; ++i) EXPECT_EQ(HttpPost(port_, "/tokenize", large).status, 200) << i;
}

TEST_F(HttpLimits, PipelinedBytesDuringAStreamAreBounded) {
  service_.set_script({.tokens_before_hold = 1});
  Start();
  HttpClient client(port_);
  client.SetSendTimeout(100);
  client.Post("/v1/completions", R"({"prompt":"a","stream":true,"max_tokens":2})");
  client.ReadUntil("\n\n");
  // The server stops reading, so at some point sending stalls; nothing is lost or answered early.
  const std::string request =
      "GET /livez HTTP/1.1\r\nX-Fill: " + std::string(2000, 'f') + "\r\n\r\n";
  int sent = 0;
  while (sent < 20000 && client.Send(request)) ++sent;
  EXPECT_LT(sent, 20000);
  service_.Release();
  EXPECT_THAT(client.ReadUntil("0\r\n\r\n"), HasSubstr("[DONE]"));
  for (int i = 0; i < std::min(sent, 100); ++i) ASSERT_EQ(client.ReadReply().status, 200) << i;
}

// Random and mutated bytes: the server answers or closes, and still serves the next client.
TEST_F(HttpLimits, RandomBytesNeverStopTheServer) {
  constexpr uint32_t kSeed = 99;
  options_.head_timeout = absl::Milliseconds(50);
  options_.body_timeout = absl::Milliseconds(50);
  options_.linger_timeout = absl::Milliseconds(50);
  Start();
  std::mt19937 random(kSeed);
  const std::string good =
      "POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 30\r\nExpect: 100-continue\r\n"
      "\r\n{\"prompt\":\"a\",\"max_tokens\":2}  GET /livez HTTP/1.1\r\n\r\n";
  for (int round = 0; round < 150; ++round) {
    std::string bytes = good;
    if (round % 4 == 0) {
      bytes.assign(random() % 600, '\0');
      for (char& c : bytes) c = static_cast<char>(random());
    } else {
      for (int edits = 0; edits < 4; ++edits) {
        bytes[random() % bytes.size()] = static_cast<char>(random());
      }
      bytes.resize(random() % (bytes.size() + 1));
    }
    HttpClient client(port_);
    client.Send(bytes);
    if (round % 10 == 0) client.ReadUntil("\r\n\r\n");
  }
  EXPECT_EQ(HttpGet(port_, "/livez").status, 200) << "seed " << kSeed;
}

}  // namespace
}  // namespace baton
