#include "bench/load/core/record.h"

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace baton::load {

std::string_view OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk:
      return "ok";
    case Outcome::kRejected:
      return "rejected";
    case Outcome::kBadStatus:
      return "bad_status";
    case Outcome::kServerError:
      return "server_error";
    case Outcome::kTimedOut:
      return "timed_out";
    case Outcome::kConnectFailed:
      return "connect_failed";
    case Outcome::kDisconnected:
      return "disconnected";
    case Outcome::kBadHttp:
      return "bad_http";
    case Outcome::kNotAStream:
      return "not_a_stream";
    case Outcome::kBadJson:
      return "bad_json";
    case Outcome::kNoDone:
      return "no_done";
    case Outcome::kNoTokens:
      return "no_tokens";
    case Outcome::kTooManyTokens:
      return "too_many_tokens";
    case Outcome::kAborted:
      return "aborted";
  }
  return "unknown";
}

std::string Reason(const RequestRecord& record) {
  const std::string name(OutcomeName(record.outcome));
  const bool by_status =
      record.outcome == Outcome::kRejected || record.outcome == Outcome::kBadStatus;
  return by_status ? absl::StrCat(name, " (HTTP ", record.http_status, ")") : name;
}

}  // namespace baton::load
