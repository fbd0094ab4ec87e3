#include "bench/load/client/flight.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace baton::load {
namespace {

constexpr size_t kErrorBytes = 4096;

// The server's own words, on one line.
std::string ErrorText(const std::string& body) {
  const auto parsed = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  std::string text = body.substr(0, 200);
  if (parsed.is_object() && parsed.contains("error")) {
    const auto& error = parsed["error"];
    if (error.is_string()) text = error.get<std::string>();
    if (error.is_object() && error.contains("message") && error["message"].is_string()) {
      text = error["message"].get<std::string>();
    }
  }
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return text.substr(0, 300);
}

}  // namespace

Flight::Flight(FlightOwner& owner, RequestRecord* record, std::shared_ptr<Connection> connection)
    : owner_(owner), record_(record), connection_(std::move(connection)), reader_(record) {}

void Flight::Send(std::string request) { connection_->Send(std::move(request), this); }

void Flight::UseConnection(std::shared_ptr<Connection> connection) {
  connection_ = std::move(connection);
}

void Flight::Fail(Outcome outcome, std::string detail) {
  connection_->Close();
  reader_.Settle(outcome, std::move(detail), owner_.NowMs());
  if (!std::exchange(reported_, true)) owner_.OnSettled(*this);
}

void Flight::OnHead(const ResponseHead& head) {
  record_->http_status = head.status;
  streaming_ = head.status == 200 && head.content_type.starts_with("text/event-stream");
}

void Flight::OnBody(std::string_view bytes) {
  if (!streaming_) {
    error_body_.append(bytes.substr(0, kErrorBytes - std::min(kErrorBytes, error_body_.size())));
    return;
  }
  const int32_t before = record_->output_tokens;
  reader_.OnBody(bytes, owner_.NowMs());
  owner_.OnTokens(record_->output_tokens - before);
  if (!reader_.settled() || std::exchange(reported_, true)) return;
  // Not waiting for the end of what is broken; after [DONE] the connection can be kept.
  if (record_->outcome != Outcome::kOk) connection_->Close();
  owner_.OnSettled(*this);
}

void Flight::OnEnd(ExchangeEnd end, bool started, const std::string& detail) {
  if (end == ExchangeEnd::kBroken && !started && connection_->used_before()) {
    return owner_.Resend(*this);
  }
  SettleByEnd(end, started, detail);
  if (!std::exchange(reported_, true)) owner_.OnSettled(*this);
  owner_.OnExchangeEnd(*this);
}

void Flight::SettleByEnd(ExchangeEnd end, bool started, const std::string& detail) {
  const double now_ms = owner_.NowMs();
  switch (end) {
    case ExchangeEnd::kConnectFailed:
      return reader_.Settle(Outcome::kConnectFailed, detail, now_ms);
    case ExchangeEnd::kNotHttp:
      return reader_.Settle(Outcome::kBadHttp, detail, now_ms);
    case ExchangeEnd::kBroken:
      return reader_.Settle(Outcome::kDisconnected,
                            started
                                ? absl::StrCat(detail, " after ", record_->output_tokens, " tokens")
                                : absl::StrCat(detail, " before the answer"),
                            now_ms);
    case ExchangeEnd::kComplete:
      break;
  }
  if (streaming_) return reader_.OnEnd(now_ms);
  SettleByStatus();
}

void Flight::SettleByStatus() {
  const int32_t status = record_->http_status;
  const bool rejected = status == 429 || status == 503;
  const Outcome outcome = status == 200 ? Outcome::kNotAStream
                          : rejected    ? Outcome::kRejected
                                        : Outcome::kBadStatus;
  reader_.Settle(outcome, ErrorText(error_body_), owner_.NowMs());
}

}  // namespace baton::load
