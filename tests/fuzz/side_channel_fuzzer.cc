// The TCP side channel beside a UCX connection, fed whatever a peer may write: frames come out
// whole and in order, and nothing that is too long is gathered.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/check.h"
#include "kvtransfer/transport/side_channel.h"
#include "tests/fuzz/pieces.h"

namespace baton {
namespace {

struct SocketPair {
  SocketPair() {
    BATON_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
  }
  int fds[2];
};

// The frames of a stream, up to the first byte that is wrong.
std::vector<std::string> FramesOf(std::string_view stream) {
  std::vector<std::string> frames;
  while (stream.size() >= 8) {
    ByteReader reader(stream);
    const auto magic = reader.Get<uint32_t>();
    const auto length_bytes = reader.Get<uint32_t>();
    if (magic != 0x314f5442 || length_bytes > kMaxSideChannelFrameBytes) break;
    if (reader.remaining() < length_bytes) break;
    frames.emplace_back(reader.GetBytes(length_bytes));
    stream.remove_prefix(8 + size_t{length_bytes});
  }
  return frames;
}

// What a channel makes of `pieces`; its own end is fds[0], the peer's fds[1].
std::vector<std::string> Receive(const std::vector<std::string_view>& pieces) {
  const SocketPair sockets;
  SideChannel channel(sockets.fds[0]);
  std::vector<std::string> frames;
  for (const std::string_view piece : pieces) {
    BATON_CHECK(write(sockets.fds[1], piece.data(), piece.size()) ==
                static_cast<ssize_t>(piece.size()));
    const bool over = !channel.Ready().ok();
    while (const auto frame = channel.TakeFrame()) frames.push_back(*frame);
    if (over) break;
  }
  close(sockets.fds[1]);
  return frames;
}

// Bodies that one channel writes come out of another.
void CheckRoundTrip(const std::vector<std::string_view>& bodies) {
  const SocketPair sockets;
  SideChannel here(sockets.fds[0]);
  SideChannel there(sockets.fds[1]);
  size_t arrived = 0;
  for (size_t i = 0; i < bodies.size(); ++i) {
    here.Write(bodies[i]);
    BATON_CHECK(here.Ready().ok() && there.Ready().ok());
    while (const auto frame = there.TakeFrame()) {
      BATON_CHECK(*frame == bodies[arrived]) << arrived;
      ++arrived;
    }
  }
  BATON_CHECK(arrived == bodies.size()) << arrived;
}

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  const std::string_view stream = TextOf(data, size);
  const std::vector<std::string> expected = FramesOf(stream);
  BATON_CHECK(Receive({stream}) == expected) << expected.size();
  BATON_CHECK(Receive(PiecesOf(stream)) == expected) << expected.size();
  CheckRoundTrip(PiecesOf(stream));
  return 0;
}
