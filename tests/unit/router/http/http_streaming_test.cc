// Server-sent events: order, errors, clients that leave, clients that do not read, many at once.
#include <gmock/gmock.h>
#include <malloc.h>
#include <sys/resource.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/unit/router/http/http_fixture.h"

// The sanitizers' own memory would drown what is measured.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

namespace baton {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kStream = R"({"prompt":"a","stream":true,"max_tokens":4,"seed":2})";

class HttpStreaming : public HttpFixture {};

TEST_F(HttpStreaming, SendsOneEventPerTokenThenDone) {
  Start();
  const HttpReply reply = HttpPost(port_, "/v1/completions", kStream);
  ASSERT_EQ(reply.status, 200);
  EXPECT_EQ(reply.headers.at("content-type"), "text/event-stream");
  EXPECT_EQ(reply.body.find('\r'), std::string::npos);
  const auto events = SseData(reply.body);
  ASSERT_EQ(events.size(), 5u);
  std::string text;
  for (int i = 0; i < 4; ++i) {
    const json choice = json::parse(events[i])["choices"][0];
    text += choice["text"].get<std::string>();
    EXPECT_EQ(choice["finish_reason"], i == 3 ? json("length") : json(nullptr));
  }
  EXPECT_EQ(text, FakeCompletionService::TextOf(2, 0, 4));
  EXPECT_EQ(events[4], "[DONE]");
}

TEST_F(HttpStreaming, TokensArriveWhileTheRequestStillRuns) {
  service_.set_script({.tokens_before_hold = 2});
  Start();
  HttpClient client(port_);
  client.Post("/v1/completions", kStream);
  client.ReadUntil("\n\n");
  EXPECT_THAT(client.ReadUntil("\n\n"), HasSubstr("data: {"));
  service_.Release();
  EXPECT_THAT(client.ReadUntil("0\r\n\r\n"), HasSubstr("data: [DONE]"));
}

TEST_F(HttpStreaming, UsageChunkComesLastAndOnlyWhenAsked) {
  Start();
  const HttpReply reply = HttpPost(
      port_, "/v1/completions",
      R"({"prompt":"a","stream":true,"max_tokens":2,"stream_options":{"include_usage":true}})");
  const auto events = SseData(reply.body);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(json::parse(events[2])["choices"], json::array());
  EXPECT_EQ(json::parse(events[2])["usage"]["completion_tokens"], 2);
}

TEST_F(HttpStreaming, AnErrorAfterTheFirstTokenIsAnEvent) {
  service_.set_script(
      {.tokens_before_hold = 1, .error = RequestError{RequestErrorCode::kDecodeLost, "gone"}});
  Start();
  const HttpReply reply = HttpPost(port_, "/v1/completions", kStream);
  EXPECT_EQ(reply.status, 200);
  const auto events = SseData(reply.body);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(json::parse(events[1])["error"]["code"], "decode_lost");
  EXPECT_EQ(events[2], "[DONE]");
}

TEST_F(HttpStreaming, AClientThatLeavesMidStreamIsCancelled) {
  service_.set_script({.tokens_before_hold = 1});
  Start();
  HttpClient client(port_);
  client.Post("/v1/completions", kStream);
  client.ReadUntil("\n\n");
  client.Close();
  EXPECT_TRUE(service_.WaitForCancelled(1));
  EXPECT_EQ(Metric("baton_http_disconnects_total{reason=\"client_left\"}"), 1);
}

TEST_F(HttpStreaming, AClientThatLeavesBeforeTheFirstTokenIsCancelled) {
  service_.set_script({.tokens_before_hold = 0});
  Start();
  for (const char* body : {kStream, R"({"prompt":["a","b"],"max_tokens":4})"}) {
    const int32_t before = static_cast<int32_t>(service_.submitted().size());
    HttpClient client(port_);
    client.Post("/v1/completions", body);
    ASSERT_TRUE(service_.WaitForSubmitted(before + 1));
    client.Close();
  }
  EXPECT_TRUE(service_.WaitForCancelled(3)) << "one stream, and both prompts of the batch";
}

TEST_F(HttpStreaming, ASlowReaderIsCutAndCancelled) {
  options_.max_output_bytes = 256 << 10;
  // The first burst fills the kernel's buffers and ours; the next event finds them full.
  service_.set_script({.tokens_before_hold = 200, .text_bytes_per_token = 64 << 10});
  Start();
  HttpClient client(port_, /*receive_buffer_bytes=*/4096);
  client.Post("/v1/completions", R"({"prompt":"a","stream":true,"max_tokens":250})");
  client.ReadUntil("\r\n\r\n");
  service_.Release();
  // The call is over for the fake, so only the cut can end the connection.
  EXPECT_EQ(client.ReadToEnd().find("[DONE]"), std::string::npos);
  EXPECT_EQ(Metric("baton_http_disconnects_total{reason=\"slow_reader\"}"), 1);
}

TEST_F(HttpStreaming, AReaderThatTakesNothingIsCutByTheWriteTimeout) {
  options_.max_output_bytes = 64 << 20;
  options_.write_timeout = absl::Milliseconds(200);
  service_.set_script({.tokens_before_hold = 200, .text_bytes_per_token = 64 << 10});
  Start();
  HttpClient client(port_, /*receive_buffer_bytes=*/4096);
  client.Post("/v1/completions", R"({"prompt":"a","stream":true,"max_tokens":250})");
  EXPECT_TRUE(service_.WaitForCancelled(1));
}

// One byte now and then never meets the write timeout; the answer has to go all the same.
TEST_F(HttpStreaming, AReaderThatTakesLittleByLittleIsCutInTheEnd) {
  options_.max_output_bytes = 64 << 20;
  options_.write_timeout = absl::Seconds(1);
  options_.min_read_bytes_per_s = 16 << 20;
  service_.set_script({.tokens_before_hold = 200, .text_bytes_per_token = 64 << 10});
  Start();
  HttpClient client(port_, /*receive_buffer_bytes=*/4096);
  client.Post("/v1/completions", R"({"prompt":"a","stream":true,"max_tokens":200})");
  service_.Release();
  int64_t taken = 0;
  while (taken < 10'000'000 && client.TakeByte()) ++taken;
  EXPECT_EQ(Metric("baton_http_disconnects_total{reason=\"slow_reader\"}"), 1);
  EXPECT_LT(taken, 10'000'000);
}

TEST_F(HttpStreaming, Http10StreamsEndWithTheConnection) {
  Start();
  HttpClient client(port_);
  client.Send("POST /v1/completions HTTP/1.0\r\nContent-Length: " +
              std::to_string(std::string_view(kStream).size()) + "\r\n\r\n" + kStream);
  const std::string reply = client.ReadToEnd();
  EXPECT_EQ(reply.find("Transfer-Encoding"), std::string::npos);
  EXPECT_EQ(reply.substr(reply.size() - 14), "data: [DONE]\n\n");
}

TEST_F(HttpStreaming, PingsKeepASilentStreamAliveWhenSwitchedOn) {
  options_.sse_ping_interval = absl::Milliseconds(20);
  service_.set_script({.tokens_before_hold = 1});
  Start();
  HttpClient client(port_);
  client.Post("/v1/completions", kStream);
  client.ReadUntil("\n\n");
  EXPECT_THAT(client.ReadUntil(": ping\n\n"), HasSubstr(": ping\n\n"));
}

TEST_F(HttpStreaming, StopLetsRunningStreamsEnd) {
  service_.set_script({.tokens_before_hold = 1});
  Start();
  HttpClient idle(port_);
  idle.Get("/livez");
  idle.ReadReply();
  HttpClient client(port_);
  client.Post("/v1/completions", kStream);
  client.ReadUntil("\n\n");
  std::thread stopper([this] { server_->Stop(absl::Seconds(20)); });
  EXPECT_EQ(idle.ReadToEnd(), "") << "idle connections close at once";
  service_.Release();
  EXPECT_THAT(client.ReadToEnd(), HasSubstr("data: [DONE]\n\n"));
  client.Close();
  stopper.join();
  EXPECT_EQ(service_.cancelled(), 0);
  EXPECT_FALSE(HttpClient(port_).connected());
}

TEST_F(HttpStreaming, StopCancelsWhatOutlivesTheDrain) {
  service_.set_script({.tokens_before_hold = 1});
  Start();
  HttpClient client(port_);
  client.Post("/v1/completions", kStream);
  client.ReadUntil("\n\n");
  server_->Stop(absl::Milliseconds(1));
  EXPECT_TRUE(service_.WaitForCancelled(1));
}

double ResidentMegabytes() {
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  file >> pages >> pages;
  return pages * 4096 / 1e6;
}

TEST_F(HttpStreaming, TwoThousandIdleStreamsAreSmall) {
  const int streams = kSanitized ? 200 : 2000;
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_cur < static_cast<rlim_t>(2 * streams + 64)) GTEST_SKIP() << "too few files";
  service_.set_script({.tokens_before_hold = 1});
  Start();
  HttpPost(port_, "/v1/completions", R"({"prompt":"a","max_tokens":1})");  // warm up
  malloc_trim(0);  // what earlier tests left must not be given back while this one counts
  const double before = ResidentMegabytes();
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < streams; ++i) {
    clients.push_back(std::make_unique<HttpClient>(port_));
    ASSERT_TRUE(clients.back()->connected());
    clients.back()->Post("/v1/completions", kStream);
  }
  for (auto& client : clients) ASSERT_THAT(client->ReadUntil("\n\n"), HasSubstr("data: "));
  const double grown = ResidentMegabytes() - before;
  RecordProperty("grown_kb_per_stream", static_cast<int>(grown * 1e3 / streams));
  std::printf("%d idle streams: %.1f MB more resident, %.1f KB each (clients included)\n", streams,
              grown, grown * 1e3 / streams);
  if (!kSanitized) {
    EXPECT_LT(grown * 1e3 / streams, 40.0) << "KB each";
  }
  service_.Release();
  for (auto& client : clients) {
    ASSERT_THAT(client->ReadUntil("0\r\n\r\n"), HasSubstr("data: [DONE]"));
  }
}

TEST_F(HttpStreaming, StreamsFarMoreThanFiveThousandTokensPerSecond) {
  service_.set_script({});
  Start();
  const int tokens = 250;
  const int rounds = kSanitized ? 4 : 80;
  HttpClient client(port_);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < rounds; ++i) {
    client.Post("/v1/completions",
                R"({"prompt":"a","stream":true,"max_tokens":)" + std::to_string(tokens) + "}");
    ASSERT_EQ(SseData(client.ReadReply().body).size(), static_cast<size_t>(tokens) + 1);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%.0f streamed tokens/s\n", tokens * rounds / took.count());
  if (!kSanitized) {
    EXPECT_GT(tokens * rounds / took.count(), 5000);
  }
}

}  // namespace
}  // namespace baton
