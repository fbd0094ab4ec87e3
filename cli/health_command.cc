#include "cli/health_command.h"

#include <cstdio>
#include <string>

#include "absl/time/time.h"
#include "cli/http_client.h"
#include "common/check.h"

namespace baton {
namespace {

class HealthCommand final : public Command {
 public:
  std::string name() const override { return "health"; }
  std::string summary() const override {
    return "Exit 0 when a router or worker is ready, else 1 with the reason";
  }
  std::string footer() const override {
    return "The URL is a router's HTTP port or a worker's admin port:\n"
           "  baton health --url http://127.0.0.1:9200\n";
  }
  void Describe(ConfigSchema& schema) override {
    AddServerSettings(schema, &server_, "the router or of the worker's admin port");
    schema.AddBool("live", &live_, "Ask /livez: does it work at all, not: does it serve now");
    schema.AddDuration("timeout", &timeout_, absl::Milliseconds(10), absl::Minutes(1),
                       "Longest wait for the answer");
  }

  absl::StatusOr<int> Run() override {
    ASSIGN_OR_RETURN(const HttpServerAddress server, ServerAddressOf(server_));
    // An answer other than 200 is an error that names the phase; errors are exit status 1.
    ASSIGN_OR_RETURN(const std::string answer,
                     FetchText(server, live_ ? "/livez" : "/readyz", timeout_));
    std::fwrite(answer.data(), 1, answer.size(), stdout);
    if (!answer.ends_with('\n')) std::puts("");
    return 0;
  }

 private:
  ServerSettings server_;
  bool live_ = false;
  absl::Duration timeout_ = absl::Seconds(3);
};

}  // namespace

std::unique_ptr<Command> MakeHealthCommand() { return std::make_unique<HealthCommand>(); }

}  // namespace baton
