// Streams payloads of one size over a transport and times them: for `baton doctor` and the bench.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "kvtransfer/transport.h"

namespace baton {

struct StreamShape {
  int64_t message_bytes = int64_t{1} << 20;
  int64_t num_messages = 256;
  int32_t window = 16;  // messages posted at once
  absl::Duration timeout = absl::Seconds(20);
};

struct StreamResult {
  std::string transport;
  double seconds = 0;
  double gigabytes_per_second = 0;  // 1e9 bytes
};

// Serves one sender on `host`: accepts `streams` streams of `shape` one after another into one
// buffer and confirms each. `listening` is told the address. Returns when the sender has gone.
absl::Status ReceiveStreams(Transport& transport, const std::string& host, const StreamShape& shape,
                            const Clock& clock,
                            const std::function<void(const PeerAddress&)>& listening);

// Sends one stream to warm up and one that is timed, from first send to the confirmation.
absl::StatusOr<StreamResult> SendStreams(Transport& transport, const PeerAddress& peer,
                                         const StreamShape& shape, const Clock& clock);

}  // namespace baton
