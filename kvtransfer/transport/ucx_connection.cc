#include "kvtransfer/transport/ucx_connection.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {
namespace {

constexpr uint8_t kHandshakeVersion = 2;
enum class FrameType : uint8_t { kOffer = 1, kAnswer = 2, kAddress = 3 };

ByteWriter StartFrame(FrameType type) {
  ByteWriter writer;
  writer.Put<uint8_t>(kHandshakeVersion).Put<uint8_t>(static_cast<uint8_t>(type));
  return writer;
}

bool Allows(uint8_t kinds, TransportChoice kind) {
  return (kinds >> static_cast<uint8_t>(kind)) & 1;
}

}  // namespace

UcxConnection::UcxConnection(UcxHost& host, Role role, std::unique_ptr<SideChannel> channel,
                             ConnectionObserver* observer)
    : host_(host),
      role_(role),
      state_(role == Role::kConnector ? State::kOffering : State::kAwaitOffer),
      channel_(std::move(channel)),
      observer_(observer),
      deliver_([this](std::span<const std::byte> header, std::unique_ptr<IncomingPayload> payload) {
        observer_->OnMessage(*this, header, std::move(payload));
      }) {
  if (role_ == Role::kConnector) SendOffer();
  UpdateWatch();
}

UcxConnection::~UcxConnection() {
  const bool connecting = state_ != State::kUp && state_ != State::kDown;
  state_ = State::kDown;
  host_.Unwatch(channel_->fd());
  // Before UCX's sockets go, so that the peer need not try to reach them.
  if (connecting) channel_->Shutdown();
  if (endpoint_ != nullptr) host_.Unwatch(endpoint_->event_fd());
  endpoint_.reset();
  for (WaitingSend& waiting : std::exchange(waiting_, {})) {
    waiting.done(absl::CancelledError("the connection was destroyed"));
  }
  host_.Destroyed(*this);
}

std::string UcxConnection::transport_name() const {
  return std::string(TransportChoiceName(kind_));
}

void UcxConnection::Send(std::span<const std::byte> header, std::span<const MemorySpan> pieces,
                         std::function<void(absl::Status)> done) {
  if (state_ == State::kUp) return endpoint_->Send(header, pieces, std::move(done));
  waiting_.push_back({{reinterpret_cast<const char*>(header.data()), header.size()},
                      {pieces.begin(), pieces.end()},
                      std::move(done)});
}

// ---------------------------------------------------------------- handshake

void UcxConnection::SendOffer() {
  channel_->Write(StartFrame(FrameType::kOffer)
                      .Put<uint8_t>(host_.allowed_kinds())
                      .Put<uint8_t>(static_cast<uint8_t>(host_.machine_id().size()))
                      .PutBytes(host_.machine_id())
                      .Take());
}

absl::Status UcxConnection::OnFrame(const std::string& frame) {
  ByteReader reader(frame);
  const auto version = reader.Get<uint8_t>();
  const auto type = static_cast<FrameType>(reader.Get<uint8_t>());
  if (version != kHandshakeVersion) {
    return absl::FailedPreconditionError(absl::StrCat("the peer's KV handshake has version ",
                                                      version, ", expected ", kHandshakeVersion));
  }
  const auto rest = [&] { return std::string(reader.GetBytes(reader.remaining())); };
  if (type == FrameType::kOffer && state_ == State::kAwaitOffer) {
    const auto allowed = reader.Get<uint8_t>();
    const auto id_bytes = reader.Get<uint8_t>();
    const std::string machine_id(reader.GetBytes(id_bytes));
    if (!reader.ok() || reader.remaining() != 0) {
      return absl::InvalidArgumentError("malformed KV handshake offer");
    }
    return OnOffer(allowed, machine_id);
  }
  if (type == FrameType::kAnswer && state_ == State::kOffering) {
    const auto kind = reader.Get<uint8_t>();
    return OnAnswer(kind, rest());
  }
  if (type == FrameType::kAddress && state_ == State::kAwaitAddress) {
    peer_address_ = rest();
    state_ = State::kAwaitPeer;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("KV handshake frame out of order");
}

absl::Status UcxConnection::OnOffer(uint8_t allowed, const std::string& machine_id) {
  const uint8_t common = allowed & host_.allowed_kinds();
  const bool same_machine = !machine_id.empty() && machine_id == host_.machine_id();
  auto kind = TransportChoice::kAuto;  // none
  if (same_machine && Allows(common, TransportChoice::kShm)) {
    kind = TransportChoice::kShm;
  } else if (Allows(common, TransportChoice::kRdma)) {
    kind = TransportChoice::kRdma;
  } else if (Allows(common, TransportChoice::kTcp)) {
    kind = TransportChoice::kTcp;
  }
  absl::StatusOr<std::string> address = absl::FailedPreconditionError(
      same_machine
          ? "the two workers allow no common KV transport"
          : "the two workers allow no common KV transport (shared memory needs one machine)");
  if (kind != TransportChoice::kAuto) address = MakeEndpoint(kind);
  const std::string_view body =
      address.ok() ? std::string_view(*address) : View(address.status().message());
  channel_->Write(
      StartFrame(FrameType::kAnswer)
          .Put<uint8_t>(static_cast<uint8_t>(address.ok() ? kind : TransportChoice::kAuto))
          .PutBytes(body)
          .Take());
  if (address.ok()) {
    state_ = State::kAwaitAddress;
  } else {
    // Let the answer leave before the socket closes.
    (void)channel_->Ready();
  }
  return address.status();
}

absl::Status UcxConnection::OnAnswer(uint8_t kind, const std::string& rest) {
  if (kind == static_cast<uint8_t>(TransportChoice::kAuto)) {
    return absl::FailedPreconditionError(rest);
  }
  if (kind > static_cast<uint8_t>(TransportChoice::kRdma) ||
      !Allows(host_.allowed_kinds(), static_cast<TransportChoice>(kind))) {
    return absl::InvalidArgumentError("the peer chose a KV transport that was not offered");
  }
  ASSIGN_OR_RETURN(const std::string address, MakeEndpoint(static_cast<TransportChoice>(kind)));
  channel_->Write(StartFrame(FrameType::kAddress).PutBytes(address).Take());
  peer_address_ = rest;
  return Meet();
}

absl::StatusOr<std::string> UcxConnection::MakeEndpoint(TransportChoice kind) {
  RETURN_IF_ERROR(CheckDescriptorRoom());
  const bool by_device = kind == TransportChoice::kTcp;
  ASSIGN_OR_RETURN(const UcxContext* context,
                   host_.ContextFor(kind, by_device ? channel_->LocalDevice() : ""));
  ASSIGN_OR_RETURN(endpoint_, UcxEndpoint::Create(*context));
  host_.Watch(endpoint_->event_fd(), false, nullptr);
  kind_ = kind;
  return endpoint_->Address();
}

absl::Status UcxConnection::Meet() {
  // UCX 1.13 leaks a little, and complains, when it connects to shared memory that has gone.
  RETURN_IF_ERROR(channel_->Ready());
  RETURN_IF_ERROR(CheckDescriptorRoom());
  RETURN_IF_ERROR(endpoint_->Connect(peer_address_));
  endpoint_->Meet();
  state_ = State::kMeeting;
  return absl::OkStatus();
}

absl::Status UcxConnection::TakeGreetings() {
  const int greetings = endpoint_->greetings();
  if (state_ == State::kAwaitPeer && greetings >= 1) RETURN_IF_ERROR(Meet());
  if (state_ == State::kMeeting && greetings >= (role_ == Role::kConnector ? 1 : 2)) Up();
  return absl::OkStatus();
}

void UcxConnection::Up() {
  if (role_ == Role::kConnector) endpoint_->Bind();
  state_ = State::kUp;
  for (WaitingSend& waiting : std::exchange(waiting_, {})) {
    endpoint_->Send(std::as_bytes(std::span(waiting.header)), waiting.pieces,
                    std::move(waiting.done));
  }
  if (role_ == Role::kAcceptor) host_.Handshaken(*this);
}

// ---------------------------------------------------------------- life

void UcxConnection::UpdateWatch() { host_.Watch(channel_->fd(), channel_->wants_write(), this); }

void UcxConnection::PollChannel() {
  // Until nothing is left: frames that were read raise no further event. Ready also writes what the
  // frames of the round before have asked for.
  for (bool more = true; more && state_ != State::kDown;) {
    more = false;
    const absl::Status alive = channel_->Ready();
    for (auto frame = channel_->TakeFrame(); frame != nullptr; frame = channel_->TakeFrame()) {
      more = true;
      if (absl::Status status = OnFrame(*frame); !status.ok()) return Fall(std::move(status));
    }
    if (!alive.ok()) return Fall(alive);
  }
  if (state_ != State::kDown) UpdateWatch();
}

void UcxConnection::Fall(absl::Status reason) {
  if (state_ == State::kDown) return;
  state_ = State::kDown;
  reason_ = std::move(reason);
  fallen_ = true;
  host_.Unwatch(channel_->fd());
}

bool UcxConnection::Progress() {
  bool any = false;
  if (endpoint_ != nullptr) {
    // What the peer sent before it went is still delivered.
    const bool deliver = observer_ != nullptr && (state_ == State::kUp || fallen_);
    any = endpoint_->Progress(deliver ? &deliver_ : nullptr);
    if (!endpoint_->failure().ok()) Fall(endpoint_->failure());
    if (const absl::Status met = TakeGreetings(); !met.ok()) Fall(met);
  }
  if (state_ == State::kDown) {
    for (WaitingSend& waiting : std::exchange(waiting_, {})) {
      any = true;
      waiting.done(reason_);
    }
  }
  if (std::exchange(fallen_, false)) {
    any = true;
    if (observer_ != nullptr) observer_->OnDisconnect(*this, reason_);
  }
  return any;
}

}  // namespace baton
