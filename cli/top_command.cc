#include "cli/top_command.h"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "cli/http_client.h"
#include "cli/signals.h"
#include "cli/top_screen.h"
#include "common/check.h"

namespace baton {
namespace {

class TopCommand final : public Command {
 public:
  std::string name() const override { return "top"; }
  std::string summary() const override {
    return "Watch a running router: requests by stage, goodput, workers, transfers";
  }
  std::string footer() const override {
    return "Ctrl-C ends it. The same in a browser: the router's URL.\n";
  }
  void Describe(ConfigSchema& schema) override {
    AddServerSettings(schema, &server_, "the router");
    schema.AddDuration("interval", &interval_, absl::Milliseconds(100), absl::Minutes(1),
                       "Time between two looks; rates are taken over it");
    schema.AddBool("once", &once_, "Print one screen and exit");
  }

  absl::StatusOr<int> Run() override {
    ASSIGN_OR_RETURN(const HttpServerAddress server, ServerAddressOf(server_));
    const bool terminal = isatty(STDOUT_FILENO) == 1;
    SignalWaiter signals;
    ASSIGN_OR_RETURN(std::string before, FetchText(server, "/cluster", kTimeout));
    while (signals.Wait(interval_) == 0) {
      ASSIGN_OR_RETURN(std::string now, FetchText(server, "/cluster", kTimeout));
      ASSIGN_OR_RETURN(const std::string screen, DrawTopScreen(before, now, {.color = terminal}));
      if (terminal && !once_) std::fputs("\x1b[H\x1b[2J", stdout);
      std::fputs(screen.c_str(), stdout);
      std::fflush(stdout);
      if (once_) return 0;
      before = std::move(now);
    }
    return 0;
  }

 private:
  static constexpr absl::Duration kTimeout = absl::Seconds(5);

  ServerSettings server_;
  absl::Duration interval_ = absl::Seconds(1);
  bool once_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeTopCommand() { return std::make_unique<TopCommand>(); }

}  // namespace baton
