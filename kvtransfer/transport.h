// Moves messages between two workers. Backends: UCX, in-process loopback; a fault decorator wraps
// either. One conformance suite (tests/conformance) runs on all of them.
//
// Vocabulary: a *message* is a small header (at most kMaxHeaderBytes, copied) and an optional
// payload (read from the sender's memory, placed where the receiver decides after it has seen the
// header). No address or key of memory crosses the wire.
//
// Threading: a Transport and its connections belong to one thread. Progress runs callbacks on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/memory_kind.h"

namespace baton {

struct PeerAddress {
  std::string host;
  int32_t port = 0;
  uint64_t boot_id = 0;
  std::string machine_id;  // equal ids may use shared memory

  friend bool operator==(const PeerAddress&, const PeerAddress&) = default;
};

// One contiguous piece of memory.
struct MemorySpan {
  std::byte* data = nullptr;
  size_t length_bytes = 0;
  MemoryKind kind = MemoryKind::kHost;  // another: one that the transport was made for
};

class Connection;

// A payload that has been announced and not yet placed. Exactly one of Accept or Refuse is called,
// inside OnMessage or later. Refusing discards the payload: none of it is written anywhere.
class IncomingPayload {
 public:
  virtual ~IncomingPayload() = default;
  virtual size_t length_bytes() const = 0;
  // Receives into `pieces` (their sum is length_bytes; one, where it is a device's). `done` is
  // called exactly once: with OK when every byte is in place, or with an error *after which the
  // transport never writes there again*.
  virtual void Accept(std::span<const MemorySpan> pieces,
                      std::function<void(absl::Status)> done) = 0;
  virtual void Refuse() = 0;
};

// What a connection tells its owner, on the owner's thread, inside Transport::Progress.
class ConnectionObserver {
 public:
  virtual ~ConnectionObserver() = default;
  // `payload` is null when the message has none.
  virtual void OnMessage(Connection& connection, std::span<const std::byte> header,
                         std::unique_ptr<IncomingPayload> payload) = 0;
  // Once; no OnMessage follows. The memory of accepted payloads is still owed their `done` calls:
  // Connection::Destroy forces them.
  virtual void OnDisconnect(Connection& connection, absl::Status reason) = 0;
};

class Connection {
 public:
  static constexpr size_t kMaxHeaderBytes = 1024;

  // Destroys what could still write or read: every outstanding `done` is called before it returns.
  virtual ~Connection() = default;

  // Messages arrive in order of Send on one connection, as seen by headers. The header is copied.
  // `pieces` (one, where it is a device's) must stay readable until `done`, which is called exactly
  // once. OK proves only that the memory may be reused, never that anything arrived (H2b).
  virtual void Send(std::span<const std::byte> header, std::span<const MemorySpan> pieces,
                    std::function<void(absl::Status)> done) = 0;
  virtual std::string transport_name() const = 0;  // "shm", "tcp", "rdma", "loopback"
};

class Transport {
 public:
  virtual ~Transport() = default;

  // Receiving side. `accepted` hands over each new connection; the callee sets its observer.
  using AcceptFn = std::function<ConnectionObserver*(std::unique_ptr<Connection>)>;
  virtual absl::StatusOr<PeerAddress> Listen(const std::string& host, int32_t port,
                                             AcceptFn accepted) = 0;
  // Sending side. Returns at once; a failure to connect arrives as OnDisconnect.
  virtual absl::StatusOr<std::unique_ptr<Connection>> Connect(const PeerAddress& peer,
                                                              ConnectionObserver* observer) = 0;

  // Runs callbacks that are due. Returns whether anything happened.
  virtual bool Progress() = 0;
  // Sleeps until something is due, Wake is called, or `timeout` has passed.
  virtual void Wait(absl::Duration timeout) = 0;
  virtual void Wake() = 0;  // any thread
  // Registers memory that payloads will come from or go to: the host's for speed, a device's
  // because it has to be.
  virtual absl::Status RegisterMemory(MemorySpan memory) = 0;
};

// Makes the transport of one KvSender or KvReceiver, on the calling thread.
class TransportFactory {
 public:
  virtual ~TransportFactory() = default;
  virtual absl::StatusOr<std::unique_ptr<Transport>> Create() = 0;
};

}  // namespace baton
