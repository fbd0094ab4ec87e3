// Keeps one worker connected: opens a session, and a new one when it ends, with growing and
// randomised pauses. Owned and called by the router's loop only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "router/core/types.h"
#include "router/link/worker_session.h"

namespace grpc {
class ChannelCredentials;
}  // namespace grpc

namespace baton::router {

struct LinkOptions {
  std::string address;  // "host:port"
  absl::Duration reconnect_min;
  absl::Duration reconnect_max;
  std::shared_ptr<grpc::ChannelCredentials> credentials;  // shared by all links
};

// The pause before try number `tries` (from 0): doubles from min to max, then between half and all
// of it, by `random`. Pure.
absl::Duration ReconnectPause(const LinkOptions& options, int32_t tries, uint64_t random);

// Not thread-safe.
class WorkerLink {
 public:
  WorkerLink(const LinkOptions& options, WorkerIndex worker, uint64_t seed,
             WorkerSession::NewsFn news);
  ~WorkerLink();  // closes the session; its end may be told later

  // Opens a session if none is open and it is time.
  void Tick(absl::Time now, const HelloFields& hello);
  absl::Time NextTick() const { return session_ ? absl::InfiniteFuture() : next_try_; }

  // To the open session; dropped without one.
  void Send(std::unique_ptr<v1::RouterMessage> message);
  // True: this was the open session. Schedules the next one.
  bool OnEnded(absl::Time now, SessionId session);
  // The worker was accepted: the next pause is a short one again.
  void OnAccepted() { tries_ = 0; }
  void Consumed(SessionId session, size_t events);
  void Close();

  bool open() const { return session_ != nullptr; }
  const std::string& address() const { return options_.address; }

 private:
  const LinkOptions options_;
  const WorkerIndex worker_;
  const WorkerSession::NewsFn news_;
  std::shared_ptr<grpc::Channel> channel_;  // shared with gRPC's stub
  std::shared_ptr<WorkerSession> session_;  // the other owner is the session itself
  SessionId session_id_;
  uint64_t random_;
  int32_t tries_ = 0;
  absl::Time next_try_ = absl::InfinitePast();
};

}  // namespace baton::router
