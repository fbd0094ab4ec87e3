// Reads from sockets and knows how long the bytes had lain in the kernel. Internal to
// bench/load/client.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace baton::load {

// One for all connections of a thread: bytes are consumed as they are read.
//
// Lag is the time from the kernel's receive timestamp of the newest bytes (SO_TIMESTAMPNS) to their
// reading. Older bytes of the same read had waited longer. Both stamps are of CLOCK_REALTIME: a
// step of that clock can falsify only what is in the kernel at that moment; negative lags are
// dropped.
class ReadBuffer {
 public:
  explicit ReadBuffer(size_t size_bytes) : bytes_(size_bytes) {}

  // Asks the kernel for timestamps. Without effect where it has none.
  static void EnableTimestamps(int socket);

  // As recv(2): the bytes are valid until the next call. `*error` is errno, 0 when bytes or the
  // peer's end (no bytes) were read.
  std::string_view Read(int socket, int* error);

  // One for each read whose bytes had a timestamp.
  const std::vector<double>& lags_ms() const { return lags_ms_; }

 private:
  std::vector<char> bytes_;
  std::vector<double> lags_ms_;
};

}  // namespace baton::load
