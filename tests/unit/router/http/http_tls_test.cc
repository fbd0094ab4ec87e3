// The HTTP server over TLS, with a client that moves its own bytes.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "common/rpc/tls_stream.h"
#include "tests/unit/common/test_certificates.h"
#include "tests/unit/router/http/http_fixture.h"

namespace baton {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class HttpTls : public HttpFixture {
 protected:
  void SetUp() override {
    options_.tls = certificates_.Of("server");
    client_context_ = TlsContext::ForClient(certificates_.authority()).value();
  }
  // Sends `request` and reads until the answer holds `end`, or the connection is over.
  std::string Ask(const std::string& request, const std::string& end) {
    HttpClient socket(port_);
    const auto tls = TlsStream::Connect(*client_context_, "127.0.0.1");
    tls->Send(request);
    std::string plain;
    for (bool alive = true; alive && plain.find(end) == std::string::npos;) {
      alive = socket.Send(tls->TakeWire());
      const std::string wire = socket.ReadSome();
      alive = alive && !wire.empty() && tls->Receive(wire, plain).ok();
    }
    ended_well_ = tls->peer_ended();
    return plain;
  }

  TestCertificates certificates_;
  std::unique_ptr<TlsContext> client_context_;
  bool ended_well_ = false;
};

TEST_F(HttpTls, AnswersAndStreams) {
  Start();
  EXPECT_THAT(Ask("GET /livez HTTP/1.1\r\n\r\n", "alive"), HasSubstr("200 OK"));
  const std::string body = R"({"prompt":"hi","max_tokens":50,"seed":3,"stream":true})";
  std::string stream =
      Ask("POST /v1/completions HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body,
          "[DONE]\n\n");
  stream.erase(0, stream.find("\r\n\r\n") + 4);
  std::string text;
  for (const std::string& event : SseData(stream)) {
    if (event != "[DONE]") text += json::parse(event)["choices"][0]["text"].get<std::string>();
  }
  EXPECT_EQ(text, FakeCompletionService::TextOf(3, 0, 50));
}

TEST_F(HttpTls, KeepsTheConnectionForTheNextRequest) {
  Start();
  const std::string answers =
      Ask("GET /livez HTTP/1.1\r\n\r\nGET /version HTTP/1.1\r\n\r\n", "1.2.3");
  EXPECT_THAT(answers, HasSubstr("alive"));
  EXPECT_THAT(answers, HasSubstr("1.2.3"));
}

TEST_F(HttpTls, TheRefusalOfOneTooManyArrives) {
  options_.max_connections = 1;
  Start();
  const HttpClient first(port_);
  EXPECT_THAT(Ask("GET /livez HTTP/1.1\r\n\r\n", "too_many_connections"), HasSubstr(" 503 "));
}

TEST_F(HttpTls, TheLastAnswerEndsWithTheStreamsEnd) {
  Start();
  Ask("GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n", "no such bytes");
  EXPECT_TRUE(ended_well_);
}

TEST_F(HttpTls, PlainHttpIsToldWhatThisPortSpeaks) {
  Start();
  const HttpReply reply = HttpGet(port_, "/livez");
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.body, HasSubstr("this port speaks HTTPS"));
}

TEST_F(HttpTls, AHandshakeThatBreaksIsCountedAndHurtsNobody) {
  Start();
  HttpClient broken(port_);
  broken.Send(std::string_view("\x16\x03\x01\x00\x05hello", 10));
  broken.ReadToEnd();
  EXPECT_EQ(Metric("baton_http_disconnects_total{reason=\"bad_tls\"}"), 1);
  EXPECT_THAT(Ask("GET /livez HTTP/1.1\r\n\r\n", "alive"), HasSubstr("200 OK"));
}

TEST_F(HttpTls, AHandshakeThatStopsIsCutOff) {
  options_.head_timeout = absl::Milliseconds(300);
  Start();
  HttpClient socket(port_);
  const auto tls = TlsStream::Connect(*client_context_, "127.0.0.1");
  const std::string hello = tls->TakeWire();
  ASSERT_TRUE(socket.Send(hello.substr(0, hello.size() / 2)));
  EXPECT_EQ(socket.ReadToEnd(), "");
}

TEST_F(HttpTls, WithoutUsableFilesThereIsNoStart) {
  options_.tls.key = "/no/such/key.pem";
  EXPECT_TRUE(absl::IsInvalidArgument(TryStart(options_).status()));
}

}  // namespace
}  // namespace baton
