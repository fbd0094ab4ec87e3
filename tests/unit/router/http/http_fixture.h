// The HTTP server over the scripted service, on a free port.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "common/log.h"
#include "common/metrics.h"
#include "router/http/http_server.h"
#include "tests/unit/router/byte_tokenizer.h"
#include "tests/unit/router/fake_completion_service.h"
#include "tests/unit/router/http/http_client.h"

namespace baton {

class HttpFixture : public ::testing::Test {
 protected:
  HttpFixture() {
    options_.port = 0;
    options_.version = "1.2.3";
    options_.id_seed = 7;
    options_.limits.slo_classes = {"default", "batch"};
  }
  ~HttpFixture() override {
    if (server_) server_->Stop(absl::ZeroDuration());
  }
  absl::StatusOr<std::unique_ptr<HttpServer>> TryStart(HttpServerOptions options) {
    return StartHttpServer(
        std::move(options),
        {.service = service_,
         .tokenizer = tokenizer_,
         .render_chat = [](std::string_view) { return absl::StatusOr<std::string>("<s>chat:"); },
         .metrics = metrics_,
         .logger = logger_,
         .access = access_});
  }
  void Start() {
    auto server = TryStart(options_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    port_ = server_->port();
  }
  double Metric(const std::string& series) const {
    const std::string text = metrics_.Render();
    const size_t at = text.find("\n" + series + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
  }

  FakeCompletionService service_;
  ByteTokenizer tokenizer_;
  MetricRegistry metrics_;
  Logger logger_{"test", LogLevel::kError, LogFormat::kText};
  AccessControl* access_ = nullptr;
  HttpServerOptions options_;
  std::unique_ptr<HttpServer> server_;
  uint16_t port_ = 0;
};

}  // namespace baton
