#include "bench/load/client/probe.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/load/client/connection.h"
#include "bench/load/client/resolve.h"
#include "bench/load/client/run_load.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton::load {
namespace {

constexpr size_t kLargestAnswer = 4u << 20;

struct Answer final : public ExchangeSink {
  int status = 0;
  std::string body;
  std::string failure;  // empty: complete
  bool ended = false;
  std::function<void()> on_end;

  void OnHead(const ResponseHead& head) override { status = head.status; }
  void OnBody(std::string_view bytes) override {
    if (body.size() + bytes.size() <= kLargestAnswer) body.append(bytes);
  }
  void OnEnd(ExchangeEnd end, bool, const std::string& detail) override {
    if (end == ExchangeEnd::kConnectFailed) failure = absl::StrCat("cannot connect: ", detail);
    if (end == ExchangeEnd::kBroken) failure = detail;
    if (end == ExchangeEnd::kNotHttp) failure = absl::StrCat("not HTTP: ", detail);
    ended = true;
    on_end();
  }
};

absl::StatusOr<Answer> Get(const Target& target, std::string_view path, absl::Duration timeout) {
  ASSIGN_OR_RETURN(const auto endpoints, Resolve(target.url));
  boost::asio::io_context io;
  ReadBuffer buffer(16u << 10);
  const auto connection = std::make_shared<Connection>(io, endpoints, buffer);
  boost::asio::steady_timer timer(io, absl::ToChronoNanoseconds(timeout));
  Answer answer;
  answer.on_end = [&] {
    timer.cancel();
    connection->Close();
  };
  timer.async_wait([&](const boost::system::error_code& error) {
    if (error) return;
    answer.failure = absl::StrCat("no answer within ", absl::FormatDuration(timeout));
    connection->Close();
  });
  connection->Send(RenderGet(target, path), &answer);
  io.run();
  if (answer.failure.empty()) return answer;
  return absl::UnavailableError(
      absl::StrCat("http://", target.url.Authority(), ": ", answer.failure));
}

int32_t IntOf(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_number_integer()) return 0;
  const auto value = it->get<int64_t>();
  return value > 0 && value <= INT32_MAX ? static_cast<int32_t>(value) : 0;
}

LoadPlan OneSmallRequest(SloClass slo_class = {}) {
  LoadPlan plan;
  plan.classes = {std::move(slo_class)};
  plan.requests.push_back({.prompt_tokens = 4, .output_tokens = 2, .content_seed = 1});
  return plan;
}

bool Refused(const RequestRecord& record) {
  return record.http_status == 400 || record.http_status == 422;
}

// A way to ask, and what it gives up against the way that was wished for.
struct Candidate {
  BodySpec body;
  std::vector<std::string> given_up;
};

// Exact lengths are worth more than timings, forced outputs more than token ids.
std::vector<Candidate> Candidates(const BodySpec& wished) {
  const std::string no_timings = "The server takes no timings and no continuous usage.";
  const std::string no_ids = "The server takes no token ids: prompts are words, lengths not exact.";
  const std::string no_forcing = "The server takes no ignore_eos: outputs may end early.";
  BodySpec plain = wished;
  plain.timings = plain.continuous_usage = false;
  BodySpec unforced = plain;
  unforced.ignore_eos = false;
  std::vector<Candidate> candidates = {{wished, {}}, {plain, {no_timings}}};
  if (wished.format == PromptFormat::kTokenIds) {
    for (Candidate candidate : {candidates[0], candidates[1]}) {
      candidate.body.format = PromptFormat::kText;
      candidate.given_up.push_back(no_ids);
      candidates.push_back(std::move(candidate));
    }
  }
  candidates.push_back({unforced, {no_timings, no_forcing}});
  if (wished.format == PromptFormat::kTokenIds) {
    unforced.format = PromptFormat::kText;
    candidates.push_back({unforced, {no_timings, no_forcing, no_ids}});
  }
  return candidates;
}

}  // namespace

absl::StatusOr<std::vector<ServedModelInfo>> ListModels(const Target& target,
                                                        absl::Duration timeout) {
  ASSIGN_OR_RETURN(const Answer answer, Get(target, "/v1/models", timeout));
  const auto failed = [&](std::string_view why) {
    return absl::FailedPreconditionError(absl::StrCat(
        "http://", target.url.Authority(), target.url.Path("/v1/models"), ": ", View(why)));
  };
  if (answer.status != 200) return failed(absl::StrCat("HTTP ", answer.status));
  const auto parsed = nlohmann::json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("data") || !parsed["data"].is_array()) {
    return failed("the answer is not a list of models");
  }
  std::vector<ServedModelInfo> models;
  for (const auto& model : parsed["data"]) {
    if (!model.is_object() || !model.contains("id") || !model["id"].is_string()) continue;
    models.push_back({.id = model["id"].get<std::string>(),
                      .max_model_len = IntOf(model, "max_model_len"),
                      .vocab_size = IntOf(model, "vocab_size")});
  }
  if (models.empty()) return failed("the server lists no model");
  return models;
}

std::string ServerVersion(const Target& target, absl::Duration timeout) {
  const auto answer = Get(target, "/version", timeout);
  if (!answer.ok() || answer->status != 200) return "";
  const auto parsed = nlohmann::json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("version") || !parsed["version"].is_string()) {
    return "";
  }
  return parsed["version"].get<std::string>();
}

absl::StatusOr<std::vector<std::string>> NegotiateBody(Target* target, absl::Duration timeout) {
  std::string refusal;
  for (const Candidate& candidate : Candidates(target->body)) {
    Target trial = *target;
    trial.body = candidate.body;
    trial.timeout = timeout;
    ASSIGN_OR_RETURN(const LoadResult result, RunLoad(OneSmallRequest(), trial));
    const RequestRecord& record = result.records.front();
    if (record.outcome == Outcome::kOk) {
      target->body = trial.body;
      std::vector<std::string> given_up = candidate.given_up;
      for (std::string& line : given_up) absl::StrAppend(&line, " (", refusal, ")");
      return given_up;
    }
    const std::string failure =
        absl::StrCat(Reason(record), record.detail.empty() ? "" : ": ", record.detail);
    if (refusal.empty()) refusal = failure;
    if (!Refused(record)) break;
  }
  return absl::FailedPreconditionError(refusal);
}

absl::Status CheckSloClasses(const Target& target, const std::vector<SloClass>& classes,
                             absl::Duration timeout) {
  Target trial = target;
  trial.timeout = timeout;
  for (const SloClass& slo_class : classes) {
    if (slo_class.name.empty()) continue;
    ASSIGN_OR_RETURN(const LoadResult result, RunLoad(OneSmallRequest(slo_class), trial));
    const RequestRecord& record = result.records.front();
    if (!Refused(record)) continue;
    return absl::InvalidArgumentError(absl::StrCat("slo_class: the server refuses \"",
                                                   slo_class.name, "\" (HTTP ", record.http_status,
                                                   "): ", record.detail));
  }
  return absl::OkStatus();
}

}  // namespace baton::load
