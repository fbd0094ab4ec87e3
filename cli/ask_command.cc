#include "cli/ask_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "cli/http_client.h"
#include "common/check.h"
#include "common/clock.h"

namespace baton {
namespace {

// What is kept of one stream while it is printed. Times are measured here, at the client.
struct Observed {
  absl::Time sent;
  absl::Time first = absl::InfiniteFuture();
  absl::Time last;
  int64_t completion_tokens = 0;
  int64_t prompt_tokens = 0;
  nlohmann::json timings;
  std::string error;
};

class AskCommand final : public Command {
 public:
  std::string name() const override { return "ask"; }
  std::string summary() const override {
    return "Stream one completion from a running server and print what it cost";
  }
  std::string footer() const override {
    return "Example: baton ask --chat \"What sound does a cow make?\"\n";
  }
  std::vector<Positional> Positionals() override {
    return {{"prompt", "What to complete, or with --chat what to say", &prompt_}};
  }
  void Describe(ConfigSchema& schema) override {
    AddServerSettings(schema, &server_, "the server");
    schema.AddBool("chat", &chat_, "Send the prompt as a chat message");
    schema.AddInt("max_tokens", &max_tokens_, 1, 1 << 20, "Longest answer");
    schema.AddDouble("temperature", &temperature_, 0, 2, "0 is greedy");
    schema.AddInt("seed", &seed_, 0, 1 << 30, "Seed of the sampler");
    schema.AddDuration("timeout", &timeout_, absl::Seconds(1), absl::Hours(1),
                       "Longest wait for the whole answer");
  }

  absl::StatusOr<int> Run() override {
    ASSIGN_OR_RETURN(const HttpServerAddress server, ServerAddressOf(server_));
    Observed observed;
    observed.sent = clock_.Now();
    if (!chat_) Print(prompt_);
    RETURN_IF_ERROR(PostForEvents(server, chat_ ? "/v1/chat/completions" : "/v1/completions",
                                  Body(), timeout_,
                                  [&](std::string_view data) { OnEvent(data, &observed); }));
    std::puts("");
    if (!observed.error.empty()) return absl::UnknownError(observed.error);
    std::fputs(Report(observed).c_str(), stdout);
    return 0;
  }

 private:
  static void Print(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  std::string Body() const {
    nlohmann::json body = {{"max_tokens", max_tokens_},
                           {"temperature", temperature_},
                           {"seed", seed_},
                           {"stream", true},
                           {"stream_options", {{"include_usage", true}}},
                           {"timings", true}};
    if (chat_) {
      body["messages"] = {{{"role", "user"}, {"content", prompt_}}};
    } else {
      body["prompt"] = prompt_;
    }
    return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  void OnEvent(std::string_view data, Observed* observed) const {
    const auto event = nlohmann::json::parse(data, nullptr, false);
    if (!event.is_object()) return;
    if (event.contains("error")) {
      observed->error = event["error"].value("message", std::string("the server failed"));
      return;
    }
    if (event.contains("timings") && event["timings"].is_object()) {
      observed->timings = event["timings"];
    }
    if (event.contains("usage") && event["usage"].is_object()) {
      observed->completion_tokens = event["usage"].value("completion_tokens", 0);
      observed->prompt_tokens = event["usage"].value("prompt_tokens", 0);
    }
    if (!event.contains("choices") || event["choices"].empty()) return;
    observed->last = clock_.Now();
    observed->first = std::min(observed->first, observed->last);
    const auto& choice = event["choices"][0];
    Print(chat_ ? choice["delta"].value("content", "") : choice.value("text", ""));
  }

  static std::string Report(const Observed& observed) {
    const int64_t tokens = observed.completion_tokens;
    std::string report =
        absl::StrFormat("\n%d prompt tokens, %d output tokens\n", observed.prompt_tokens, tokens);
    absl::StrAppendFormat(&report, "TTFT %.1f ms",
                          absl::ToDoubleMilliseconds(observed.first - observed.sent));
    if (tokens > 1) {
      absl::StrAppendFormat(
          &report, ", TPOT %.2f ms",
          absl::ToDoubleMilliseconds(observed.last - observed.first) / (tokens - 1));
    }
    if (observed.timings.is_object()) {
      const auto& timings = observed.timings;
      const auto bytes = timings.value("kv_bytes", int64_t{0});
      if (bytes > 0) {
        absl::StrAppendFormat(&report, ", %d bytes of KV over UCX (%s)", bytes,
                              timings.value("transport", "?"));
      } else {
        absl::StrAppend(&report, ", no KV handoff");
      }
      absl::StrAppendFormat(&report, "\nprefill %s, decode %s",
                            timings.value("prefill_worker", "-"),
                            timings.value("decode_worker", "-"));
    }
    return report + "\n";
  }

  const MonotonicClock clock_{};
  std::string prompt_;
  ServerSettings server_;
  bool chat_ = false;
  int32_t max_tokens_ = 64;
  double temperature_ = 0.7;
  int32_t seed_ = 0;
  absl::Duration timeout_ = absl::Minutes(2);
};

}  // namespace

std::unique_ptr<Command> MakeAskCommand() { return std::make_unique<AskCommand>(); }

}  // namespace baton
