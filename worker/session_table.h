// Which routers hold a session on this worker, until when, and which epochs are over: the pure part
// of the control server.
//
// A session is *opened* when its stream starts, *admitted* by its Hello, *ended* by either side. An
// opened session that says no Hello, and an admitted one that sends no heartbeat for its lease,
// expire.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/messages.h"

namespace baton {

struct SessionTableOptions {
  uint32_t protocol_version = 1;
  uint64_t model_fingerprint = 0;
  size_t max_sessions = 16;
  size_t max_remembered_routers = 1024;
  absl::Duration hello_timeout = absl::Seconds(5);
  absl::Duration default_lease = absl::Seconds(10);  // for lease_ms 0
  absl::Duration min_lease = absl::Milliseconds(100);
  absl::Duration max_lease = absl::Minutes(10);
};

struct HelloInfo {
  std::string router_id;
  uint64_t router_epoch = 0;
  uint32_t protocol_version = 0;
  int32_t lease_ms = 0;
  uint64_t model_fingerprint = 0;  // 0: the router does not know it yet
};

// Not thread-safe.
class SessionTable {
 public:
  explicit SessionTable(const SessionTableOptions& options) : options_(options) {}

  // RESOURCE_EXHAUSTED: too many sessions.
  absl::Status Open(SessionId session, absl::Time now);

  // REQUIRES: opened, not admitted. FAILED_PRECONDITION: protocol or model differ (both named), or
  // a later epoch of this router has been here. `replaced` gets the router's older sessions, which
  // the caller ends.
  absl::Status Admit(SessionId session, const HelloInfo& hello, absl::Time now,
                     std::vector<SessionId>* replaced);

  // False for a session that is not admitted.
  bool Heartbeat(SessionId session, absl::Time now);
  void End(SessionId session) { sessions_.erase(session); }

  // Takes out the sessions whose time is over.
  struct Expired {
    SessionId session;
    std::string reason;
  };
  std::vector<Expired> TakeExpired(absl::Time now);

  size_t size() const { return sessions_.size(); }

 private:
  struct Session {
    bool admitted = false;
    std::string router_id;
    absl::Duration lease;
    absl::Time expires;
  };
  void RememberEpoch(const std::string& router_id, uint64_t epoch, absl::Time now);

  struct Epoch {
    uint64_t epoch = 0;
    absl::Time seen;
  };
  const SessionTableOptions options_;
  std::map<SessionId, Session> sessions_;
  std::map<std::string, Epoch> epochs_;  // by router id; the least recently seen is forgotten first
};

}  // namespace baton
