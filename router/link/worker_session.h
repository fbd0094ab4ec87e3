// One gRPC Session stream to one worker. Only bytes: what a message means is decided elsewhere.
#pragma once

#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "router/core/events.h"
#include "router/link/proto_convert.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace baton::router {

// What a session tells the router's loop, from gRPC's threads.
struct SessionMessages {
  std::vector<Event> events;  // in the worker's order, not empty
};
struct SessionEnded {
  absl::Status status;
};
using SessionNews = std::variant<SessionMessages, SessionEnded>;

// Thread-safe. Messages come in order; SessionEnded exactly once, last.
class WorkerSession {
 public:
  // False: nobody listens any more; the session then closes.
  using NewsFn = std::function<bool(const WorkerOrigin&, SessionNews)>;

  // Opens the stream and says Hello. Never blocks. The session keeps itself alive until its end was
  // told; `news` must be callable until then.
  static std::shared_ptr<WorkerSession> Open(const std::shared_ptr<grpc::Channel>& channel,
                                             const WorkerOrigin& origin, const HelloFields& hello,
                                             NewsFn news);
  virtual ~WorkerSession() = default;

  // Queues a message; never blocks. A worker that lets too many pile up loses the session.
  virtual void Send(std::unique_ptr<v1::RouterMessage> message) = 0;
  // The loop has handled so many events. Reading stops while too many are not.
  virtual void Consumed(size_t events) = 0;
  // Idempotent; SessionEnded follows.
  virtual void Close() = 0;
};

}  // namespace baton::router
