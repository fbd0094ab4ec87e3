// One connection over UCX: its side channel, its handshake, its endpoint. Not thread-safe.
//
//   who        state         event                               next          does
//   connector  Offering      the socket connects                 Offering      sends its offer
//   connector  Offering      answer: transport and address       Meeting       makes its endpoint,
//                                                                              sends its address,
//                                                                              greets
//   connector  Offering      answer: refused                     Down          OnDisconnect
//   connector  Meeting       the acceptor's greeting             Up            greets, binding
//   acceptor   AwaitOffer    offer with a common transport       AwaitAddress  answers: address
//   acceptor   AwaitOffer    offer without one                   Down          answers: refused
//   acceptor   AwaitAddress  address                             AwaitPeer     keeps it
//   acceptor   AwaitPeer     the connector's greeting            Meeting       makes its endpoint,
//                                                                              greets
//   acceptor   Meeting       the connector's second, binding,    Up            tells its host
//                            greeting
//   any        any           the socket ends, UCX fails, a       Down          OnDisconnect, once
//                            frame is out of order
//
// Greetings go over UCX. They make the two sides connect one after the other, because UCX 1.13
// aborts the process (ucp_request_send_state_ff: "got REP message") when a TCP connection fails
// while a reply of UCX's own handshake waits on it. That handshake runs when endpoint ids are first
// needed; the connector asks for it, by the binding greeting, once the acceptor's greeting has
// shown that the acceptor's side of the connection works. So a reply never waits: it finds a
// connection that is made and empty. User messages come after it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kvtransfer/transport.h"
#include "kvtransfer/transport/side_channel.h"
#include "kvtransfer/transport/ucx_endpoint.h"

namespace baton {

class UcxConnection;

// What a connection needs of its transport.
class UcxHost {
 public:
  virtual ~UcxHost() = default;
  virtual absl::StatusOr<const UcxContext*> ContextFor(TransportChoice kind,
                                                       const std::string& device) = 0;
  // One bit (1 << TransportChoice) for each kind that this side may use at all.
  virtual uint8_t allowed_kinds() const = 0;
  virtual const std::string& machine_id() const = 0;
  // Polls `fd`; again: changes what for. `channel_of`: call its PollChannel; null: only wake up.
  virtual void Watch(int fd, bool write, UcxConnection* channel_of) = 0;
  virtual void Unwatch(int fd) = 0;
  virtual void Handshaken(UcxConnection& accepted) = 0;  // an accepted connection is up
  virtual void Destroyed(UcxConnection& connection) = 0;
};

class UcxConnection final : public Connection {
 public:
  enum class Role { kConnector, kAcceptor };
  // `observer` may be null for an acceptor until Handshaken. `host` must outlive the connection.
  UcxConnection(UcxHost& host, Role role, std::unique_ptr<SideChannel> channel,
                ConnectionObserver* observer);
  ~UcxConnection() override;

  void Send(std::span<const std::byte> header, std::span<const MemorySpan> pieces,
            std::function<void(absl::Status)> done) override;
  std::string transport_name() const override;

  void set_observer(ConnectionObserver* observer) { observer_ = observer; }
  bool down() const { return state_ == State::kDown; }
  // The side channel may have something.
  void PollChannel();
  // Returns whether anything happened.
  bool Progress();
  // True when it is safe to sleep until a descriptor is readable.
  bool Arm() {
    const bool due = fallen_ || (state_ == State::kDown && !waiting_.empty());
    return !due && (endpoint_ == nullptr || endpoint_->Arm());
  }

 private:
  enum class State { kOffering, kAwaitOffer, kAwaitAddress, kAwaitPeer, kMeeting, kUp, kDown };
  struct WaitingSend {  // before the connection is up, and after its end
    std::string header;
    std::vector<MemorySpan> pieces;
    std::function<void(absl::Status)> done;
  };

  void SendOffer();
  absl::Status OnFrame(const std::string& frame);
  absl::Status OnOffer(uint8_t allowed, const std::string& machine_id);
  absl::Status OnAnswer(uint8_t kind, const std::string& rest);
  absl::StatusOr<std::string> MakeEndpoint(TransportChoice kind);  // returns its address
  // Makes the UCX endpoint.
  absl::Status Meet();
  // What greetings have come for.
  absl::Status TakeGreetings();
  void Up();
  void Fall(absl::Status reason);
  void UpdateWatch();

  UcxHost& host_;
  const Role role_;
  State state_;
  const std::unique_ptr<SideChannel> channel_;
  ConnectionObserver* observer_;
  std::unique_ptr<UcxEndpoint> endpoint_;
  std::string peer_address_;  // of the peer's UCX worker, once it is known
  UcxEndpoint::MessageFn deliver_;
  std::vector<WaitingSend> waiting_;
  TransportChoice kind_ = TransportChoice::kAuto;
  absl::Status reason_;
  bool fallen_ = false;  // OnDisconnect is due
};

}  // namespace baton
