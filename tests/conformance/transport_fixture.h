// Two ends of one transport on one thread, and recorders for what each is told. The parameter is
// the backend's name.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "kvtransfer/transport.h"

namespace baton::testing {

using Bytes = std::vector<std::byte>;

Bytes Pattern(size_t length_bytes, uint32_t seed);
inline MemorySpan SpanOf(Bytes& bytes) { return {bytes.data(), bytes.size()}; }
inline std::span<const std::byte> HeaderOf(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// Counts how often a `done` was called, and with what.
struct Done {
  int calls = 0;
  absl::Status status;
  std::function<void(absl::Status)> Fn() {
    return [this](absl::Status s) {
      ++calls;
      status = std::move(s);
    };
  }
};

// One end: keeps what arrives until the test looks.
struct End final : ConnectionObserver {
  struct Message {
    std::string header;
    std::unique_ptr<IncomingPayload> payload;
  };
  void OnMessage(Connection& from, std::span<const std::byte> header,
                 std::unique_ptr<IncomingPayload> payload) override {
    EXPECT_EQ(&from, connection.get());
    EXPECT_EQ(disconnects, 0) << "a message after OnDisconnect";
    messages.push_back(
        {{reinterpret_cast<const char*>(header.data()), header.size()}, std::move(payload)});
  }
  void OnDisconnect(Connection&, absl::Status reason) override {
    ++disconnects;
    EXPECT_FALSE(reason.ok());
  }
  std::deque<Message> messages;
  int disconnects = 0;
  std::unique_ptr<Connection> connection;
};

class TransportTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override;
  void TearDown() override { Close(); }

  // Ends what is open. A test whose `done`s may still come calls it while they live.
  void Close() {
    client_.messages.clear();
    client_.connection.reset();
    accepted_.clear();
  }

  void ConnectClient() {
    auto connection = here_->Connect(address_, &client_);
    ASSERT_TRUE(connection.ok()) << connection.status();
    client_.connection = *std::move(connection);
    ASSERT_TRUE(Drive([this] { return accepted_.size() == 1; }));
  }
  End& server() { return *accepted_[0]; }

  // Progresses both ends until `reached`; false after 20 s.
  bool Drive(const std::function<bool()>& reached) {
    const absl::Time give_up = clock_.Now() + absl::Seconds(20);
    while (!reached()) {
      here_->Progress();
      there_->Progress();
      if (clock_.Now() > give_up) return false;
    }
    return true;
  }
  // Lets everything settle that is under way.
  void DriveRounds(int rounds) {
    for (int i = 0; i < rounds; ++i) {
      here_->Progress();
      there_->Progress();
    }
  }

  MonotonicClock clock_;
  std::unique_ptr<TransportFactory> inner_;
  std::unique_ptr<TransportFactory> factory_;
  std::unique_ptr<Transport> here_;
  std::unique_ptr<Transport> there_;
  PeerAddress address_;
  End client_;
  std::vector<std::unique_ptr<End>> accepted_;
};

}  // namespace baton::testing
