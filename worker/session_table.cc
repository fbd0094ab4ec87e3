#include "worker/session_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/check.h"

namespace baton {

absl::Status SessionTable::Open(SessionId session, absl::Time now) {
  if (sessions_.size() >= options_.max_sessions) {
    return absl::ResourceExhaustedError(
        absl::StrCat("all ", options_.max_sessions, " router sessions are in use"));
  }
  const bool is_new =
      sessions_.emplace(session, Session{.expires = now + options_.hello_timeout}).second;
  BATON_CHECK(is_new) << session;
  return absl::OkStatus();
}

absl::Status SessionTable::Admit(SessionId session, const HelloInfo& hello, absl::Time now,
                                 std::vector<SessionId>* replaced) {
  const auto found = sessions_.find(session);
  BATON_CHECK(found != sessions_.end() && !found->second.admitted) << session;
  if (hello.router_id.empty() || hello.router_id.size() > 255) {
    return absl::InvalidArgumentError(
        absl::StrCat("router_id has ", hello.router_id.size(), " bytes, 1 to 255 are allowed"));
  }
  if (hello.protocol_version != options_.protocol_version) {
    return absl::FailedPreconditionError(absl::StrCat("the router speaks protocol version ",
                                                      hello.protocol_version, ", this worker ",
                                                      options_.protocol_version));
  }
  if (hello.model_fingerprint != 0 && hello.model_fingerprint != options_.model_fingerprint) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the router serves model %016x, this worker holds %016x",
                        hello.model_fingerprint, options_.model_fingerprint));
  }
  const auto epoch = epochs_.find(hello.router_id);
  if (epoch != epochs_.end() && hello.router_epoch < epoch->second.epoch) {
    return absl::FailedPreconditionError(absl::StrCat("epoch ", hello.router_epoch, " of router ",
                                                      hello.router_id, " is over: epoch ",
                                                      epoch->second.epoch, " has been here"));
  }
  for (const auto& [other, entry] : sessions_) {
    if (entry.admitted && entry.router_id == hello.router_id) replaced->push_back(other);
  }
  for (const SessionId other : *replaced) sessions_.erase(other);
  const absl::Duration lease =
      hello.lease_ms == 0
          ? options_.default_lease
          : std::clamp(absl::Milliseconds(hello.lease_ms), options_.min_lease, options_.max_lease);
  found->second = {
      .admitted = true, .router_id = hello.router_id, .lease = lease, .expires = now + lease};
  RememberEpoch(hello.router_id, hello.router_epoch, now);
  return absl::OkStatus();
}

bool SessionTable::Heartbeat(SessionId session, absl::Time now) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end() || !found->second.admitted) return false;
  found->second.expires = now + found->second.lease;
  return true;
}

std::vector<SessionTable::Expired> SessionTable::TakeExpired(absl::Time now) {
  std::vector<Expired> expired;
  for (auto at = sessions_.begin(); at != sessions_.end();) {
    if (at->second.expires > now) {
      ++at;
      continue;
    }
    expired.push_back(
        {at->first,
         at->second.admitted
             ? absl::StrCat("no heartbeat of router ", at->second.router_id, " for ",
                            absl::FormatDuration(at->second.lease))
             : absl::StrCat("no Hello within ", absl::FormatDuration(options_.hello_timeout))});
    at = sessions_.erase(at);
  }
  return expired;
}

void SessionTable::RememberEpoch(const std::string& router_id, uint64_t epoch, absl::Time now) {
  epochs_[router_id] = {epoch, now};
  if (epochs_.size() <= options_.max_remembered_routers) return;
  epochs_.erase(std::min_element(epochs_.begin(), epochs_.end(), [](const auto& a, const auto& b) {
    return a.second.seen < b.second.seen;
  }));
}

}  // namespace baton
