#include "kvtransfer/stream_measure.h"

#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "common/check.h"

namespace baton {
namespace {

constexpr std::byte kPayloadHeader[] = {std::byte{'p'}};
constexpr std::byte kConfirmHeader[] = {std::byte{'c'}};
constexpr absl::Duration kSpin = absl::Microseconds(50);

// Progresses until `reached`, sleeping when nothing moves.
absl::Status Drive(Transport& transport, const Clock& clock, absl::Duration timeout,
                   const std::function<bool()>& reached) {
  const absl::Time give_up = clock.Now() + timeout;
  absl::Time last_activity = clock.Now();
  while (!reached()) {
    const absl::Time now = clock.Now();
    if (transport.Progress()) {
      last_activity = now;
    } else if (now >= give_up) {
      return absl::DeadlineExceededError("the stream did not finish in time");
    } else if (now - last_activity >= kSpin) {
      transport.Wait(absl::Milliseconds(10));
    }
  }
  return absl::OkStatus();
}

class StreamReceiver final : public ConnectionObserver {
 public:
  explicit StreamReceiver(const StreamShape& shape)
      : shape_(shape), buffer_(static_cast<size_t>(shape.message_bytes)) {}

  void OnMessage(Connection& from, std::span<const std::byte>,
                 std::unique_ptr<IncomingPayload> payload) override {
    if (payload == nullptr || payload->length_bytes() != buffer_.size()) return;
    const MemorySpan span{buffer_.data(), buffer_.size()};
    payload->Accept(std::span(&span, 1), [this, &from](absl::Status status) {
      if (!status.ok() || ++received_ % shape_.num_messages != 0) return;
      from.Send(kConfirmHeader, {}, [](absl::Status) {});
    });
  }
  void OnDisconnect(Connection&, absl::Status) override { gone = true; }

  std::unique_ptr<Connection> connection;
  bool gone = false;

 private:
  const StreamShape shape_;
  std::vector<std::byte> buffer_;
  int64_t received_ = 0;
};

class StreamSender final : public ConnectionObserver {
 public:
  explicit StreamSender(const StreamShape& shape)
      : shape_(shape), buffer_(static_cast<size_t>(shape.message_bytes), std::byte{0x5a}) {}

  void OnMessage(Connection&, std::span<const std::byte>,
                 std::unique_ptr<IncomingPayload>) override {
    ++confirmed;
  }
  void OnDisconnect(Connection&, absl::Status reason) override { lost = std::move(reason); }

  void Start() {
    to_send_ = shape_.num_messages;
    for (int32_t i = 0; i < shape_.window; ++i) SendOne();
  }

  std::unique_ptr<Connection> connection;
  int confirmed = 0;
  absl::Status lost;

 private:
  void SendOne() {
    if (to_send_ == 0) return;
    --to_send_;
    const MemorySpan span{buffer_.data(), buffer_.size()};
    connection->Send(kPayloadHeader, std::span(&span, 1), [this](absl::Status status) {
      if (status.ok()) SendOne();
    });
  }

  const StreamShape shape_;
  std::vector<std::byte> buffer_;
  int64_t to_send_ = 0;
};

}  // namespace

absl::Status ReceiveStreams(Transport& transport, const std::string& host, const StreamShape& shape,
                            const Clock& clock,
                            const std::function<void(const PeerAddress&)>& listening) {
  StreamReceiver receiver(shape);
  ASSIGN_OR_RETURN(const PeerAddress address,
                   transport.Listen(host, 0, [&](std::unique_ptr<Connection> connection) {
                     receiver.connection = std::move(connection);
                     return &receiver;
                   }));
  listening(address);
  return Drive(transport, clock, 3 * shape.timeout, [&] { return receiver.gone; });
}

absl::StatusOr<StreamResult> SendStreams(Transport& transport, const PeerAddress& peer,
                                         const StreamShape& shape, const Clock& clock) {
  StreamSender sender(shape);
  ASSIGN_OR_RETURN(sender.connection, transport.Connect(peer, &sender));
  StreamResult result;
  for (int stream = 1; stream <= 2; ++stream) {
    const absl::Time start = clock.Now();
    sender.Start();
    RETURN_IF_ERROR(Drive(transport, clock, shape.timeout,
                          [&] { return sender.confirmed == stream || !sender.lost.ok(); }));
    RETURN_IF_ERROR(sender.lost);
    result.seconds = absl::ToDoubleSeconds(clock.Now() - start);
  }
  result.transport = sender.connection->transport_name();
  result.gigabytes_per_second =
      static_cast<double>(shape.message_bytes * shape.num_messages) / result.seconds / 1e9;
  sender.connection.reset();
  return result;
}

}  // namespace baton
