// The thread of one KvSender or KvReceiver: it owns a Transport, lets it progress, and sleeps when
// there is nothing to do.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "kvtransfer/transport.h"

namespace baton {

// What the loop runs. Every call is on the loop's thread.
class TransferLoopClient {
 public:
  virtual ~TransferLoopClient() = default;
  // First call. An error ends the loop at once: Step and Finish never come.
  virtual absl::Status Begin(Transport& transport) = 0;
  // After each Transport::Progress. Returns whether anything happened.
  virtual bool Step(absl::Time now) = 0;
  virtual absl::Time NextDeadline() const = 0;
  // Last call: gives up every connection. The transport is destroyed after it.
  virtual void Finish(absl::Time now) = 0;
};

class TransferLoop {
 public:
  TransferLoop(std::string thread_name, TransportFactory& transports, const Clock& clock,
               TransferLoopClient& client);
  ~TransferLoop() { Stop(); }

  // Starts the thread; returns what Begin said. REQUIRES: called once.
  absl::Status Start();
  // Finishes and joins. Idempotent. After it no callback runs.
  void Stop();
  // Any thread, between Start and Stop: ends the loop's sleep.
  void Wake();

 private:
  void Run(Transport& transport);

  const std::string thread_name_;
  TransportFactory& transports_;
  const Clock& clock_;
  TransferLoopClient& client_;
  std::unique_ptr<Transport> transport_;  // made on the thread, destroyed once it is joined
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace baton
