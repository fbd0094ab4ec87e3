// The HTTP front over the scripted service, to try clients by hand:
//   ninja -C build/dev baton_fake_server && build/dev/…/baton_fake_server 8000
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "common/log.h"
#include "common/metrics.h"
#include "router/http/http_server.h"
#include "tests/unit/router/byte_tokenizer.h"
#include "tests/unit/router/fake_completion_service.h"

int main(int argc, char** argv) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  baton::FakeCompletionService service;
  const baton::ByteTokenizer tokenizer;
  baton::MetricRegistry metrics;
  baton::Logger logger("fake", baton::LogLevel::kDebug, baton::LogFormat::kText);
  baton::HttpServerOptions options;
  options.port = static_cast<uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0);
  options.version = "fake";
  auto server = baton::StartHttpServer(
      options, {.service = service,
                .tokenizer = tokenizer,
                .render_chat = [](std::string_view) { return absl::StatusOr<std::string>("chat"); },
                .metrics = metrics,
                .logger = logger});
  if (!server.ok()) {
    std::fprintf(stderr, "%s\n", server.status().ToString().c_str());
    return 1;
  }
  std::printf("ready http://127.0.0.1:%d\n", (*server)->port());
  std::fflush(stdout);
  int received = 0;
  sigwait(&signals, &received);
  (*server)->Stop(absl::Seconds(5));
  return 0;
}
