#include "kvtransfer/transport/ucx_transport.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/listening_socket.h"
#include "kvtransfer/transport/ucx_connection.h"
#include "kvtransfer/transport/ucx_context.h"

namespace baton {
namespace {

// How many busy rounds may pass before the sockets are looked at.
constexpr int kRoundsPerPoll = 64;
// Peers that have connected and not finished their handshake; the oldest makes room.
constexpr size_t kMaxHandshakes = 64;
constexpr size_t kMaxMachineIdBytes = 255;

constexpr uint8_t Bit(TransportChoice kind) {
  return static_cast<uint8_t>(1 << static_cast<uint8_t>(kind));
}

class UcxTransport final : public Transport, public UcxHost {
 public:
  UcxTransport(std::string machine_id, uint8_t kinds, const UcxCudaTransports& cuda)
      : machine_id_(std::move(machine_id)), allowed_kinds_(kinds), cuda_(cuda) {
    epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
    wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    BATON_CHECK(epoll_fd_ >= 0 && wake_fd_ >= 0) << errno;
    Watch(wake_fd_, false, nullptr);
  }
  ~UcxTransport() override {
    handshaking_.clear();
    BATON_CHECK(connections_.empty()) << "a connection outlives its transport";
    close(wake_fd_);
    close(epoll_fd_);
  }

  absl::StatusOr<PeerAddress> Listen(const std::string& host, int32_t port,
                                     AcceptFn accepted) override {
    BATON_CHECK(listening_.fd() < 0) << "listens already";
    ASSIGN_OR_RETURN(listening_, ListeningSocket::Bind(host, port));
    accepted_ = std::move(accepted);
    Watch(listening_.fd(), false, nullptr);
    return PeerAddress{host, listening_.port(), 0, machine_id_};
  }

  absl::StatusOr<std::unique_ptr<Connection>> Connect(const PeerAddress& peer,
                                                      ConnectionObserver* observer) override {
    ASSIGN_OR_RETURN(auto channel, SideChannel::Connect(peer.host, peer.port));
    auto connection = std::make_unique<UcxConnection>(*this, UcxConnection::Role::kConnector,
                                                      std::move(channel), observer);
    connections_.push_back(connection.get());
    return connection;
  }

  bool Progress() override {
    bool any = false;
    if (++rounds_ >= kRoundsPerPoll) any |= Poll(0);
    // By index: callbacks may add connections.
    for (size_t i = 0; i < connections_.size(); ++i) any |= connections_[i]->Progress();
    std::erase_if(handshaking_, [](const auto& connection) { return connection->down(); });
    return any;
  }

  void Wait(absl::Duration timeout) override {
    for (UcxConnection* connection : connections_) {
      if (!connection->Arm()) return;
    }
    const int64_t timeout_ms =
        absl::ToInt64Milliseconds(absl::Ceil(timeout, absl::Milliseconds(1)));
    Poll(static_cast<int>(std::clamp<int64_t>(timeout_ms, 0, 60'000)));
  }

  void Wake() override {
    const uint64_t one = 1;
    // Fails only when the counter is full, and then the sleeper wakes anyway.
    [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
  }

  // The host's UCX registers on first use and remembers; CMA and TCP need nothing.
  absl::Status RegisterMemory(MemorySpan memory) override {
    if (memory.kind == MemoryKind::kHost) return absl::OkStatus();
    device_memory_.push_back(memory);
    for (auto& [key, context] : contexts_) RETURN_IF_ERROR(context->Register(memory));
    return absl::OkStatus();
  }

 private:
  // Waits for the sockets and serves them. UCX's descriptors only end the wait.
  bool Poll(int timeout_ms) {
    rounds_ = 0;
    epoll_event events[32];
    const int count = epoll_wait(epoll_fd_, events, std::size(events), timeout_ms);
    bool any = false;
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd == wake_fd_) {
        uint64_t ignored = 0;
        [[maybe_unused]] const ssize_t drained = read(wake_fd_, &ignored, sizeof ignored);
        any = true;
      } else if (fd == listening_.fd()) {
        AcceptAll();
        any = true;
      } else if (const auto it = channels_.find(fd); it != channels_.end()) {
        it->second->PollChannel();
        any = true;
      }
    }
    return any;
  }

  void AcceptAll() {
    for (int fd = listening_.Accept(); fd >= 0; fd = listening_.Accept()) {
      if (handshaking_.size() >= kMaxHandshakes) handshaking_.erase(handshaking_.begin());
      handshaking_.push_back(std::make_unique<UcxConnection>(
          *this, UcxConnection::Role::kAcceptor, std::make_unique<SideChannel>(fd), nullptr));
      connections_.push_back(handshaking_.back().get());
    }
  }

  // ---- UcxHost

  absl::StatusOr<const UcxContext*> ContextFor(TransportChoice kind,
                                               const std::string& device) override {
    const auto found = contexts_.find({kind, device});
    if (found != contexts_.end()) return found->second.get();
    ASSIGN_OR_RETURN(auto context, UcxContext::Create(kind, device, cuda_));
    for (const MemorySpan& memory : device_memory_) RETURN_IF_ERROR(context->Register(memory));
    return (contexts_[{kind, device}] = std::move(context)).get();
  }
  uint8_t allowed_kinds() const override { return allowed_kinds_; }
  const std::string& machine_id() const override { return machine_id_; }

  void Watch(int fd, bool write, UcxConnection* channel_of) override {
    if (channel_of != nullptr) channels_[fd] = channel_of;
    epoll_event event = {};
    event.events = EPOLLIN | EPOLLRDHUP | (write ? EPOLLOUT : 0u);
    event.data.fd = fd;
    if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
      BATON_CHECK(errno == EEXIST) << errno;
      BATON_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event) == 0) << errno;
    }
  }
  void Unwatch(int fd) override {
    epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
    channels_.erase(fd);
  }
  void Handshaken(UcxConnection& accepted) override {
    const auto it = std::find_if(handshaking_.begin(), handshaking_.end(),
                                 [&](const auto& c) { return c.get() == &accepted; });
    BATON_CHECK(it != handshaking_.end());
    std::unique_ptr<UcxConnection> owned = std::move(*it);
    handshaking_.erase(it);
    accepted.set_observer(accepted_(std::move(owned)));
  }
  void Destroyed(UcxConnection& connection) override { std::erase(connections_, &connection); }

  const std::string machine_id_;
  const uint8_t allowed_kinds_;
  const UcxCudaTransports cuda_;
  std::vector<MemorySpan> device_memory_;
  int epoll_fd_ = -1;
  int wake_fd_ = -1;
  ListeningSocket listening_;
  AcceptFn accepted_;
  int rounds_ = 0;
  std::map<std::pair<TransportChoice, std::string>, std::unique_ptr<UcxContext>> contexts_;
  std::vector<UcxConnection*> connections_;
  std::map<int, UcxConnection*> channels_;  // by the side channel's descriptor
  std::vector<std::unique_ptr<UcxConnection>> handshaking_;
};

class UcxFactory final : public TransportFactory {
 public:
  UcxFactory(std::string machine_id, uint8_t kinds, const UcxCudaTransports& cuda)
      : machine_id_(std::move(machine_id)), kinds_(kinds), cuda_(cuda) {}
  absl::StatusOr<std::unique_ptr<Transport>> Create() override {
    return std::make_unique<UcxTransport>(machine_id_, kinds_, cuda_);
  }

 private:
  const std::string machine_id_;
  const uint8_t kinds_;
  const UcxCudaTransports cuda_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TransportFactory>> MakeUcxTransportFactory(UcxOptions options) {
  if (options.machine_id.size() > kMaxMachineIdBytes) {
    return absl::InvalidArgumentError(absl::StrCat("machine id has ", options.machine_id.size(),
                                                   " bytes, at most ", kMaxMachineIdBytes));
  }
  if (options.choice == TransportChoice::kShm && options.machine_id.empty()) {
    return absl::FailedPreconditionError(
        "kv_transport shm needs a machine id: /proc is not readable here");
  }
  UcxCudaTransports cuda;
  if (options.memory == MemoryKind::kCuda) {
    cuda = FindUcxCudaTransports();
    if (!cuda.copy) {
      return absl::FailedPreconditionError(
          absl::StrCat("UCX ", UcxVersion(),
                       " does not reach CUDA memory here: run with a UCX that has CUDA, as PyPI's "
                       "libucx-cu13 (docs/operations.md, GPUs)"));
    }
  }
  uint8_t kinds = 0;
  absl::Status last = absl::OkStatus();
  for (const TransportChoice kind :
       {TransportChoice::kShm, TransportChoice::kTcp, TransportChoice::kRdma}) {
    const bool wanted =
        options.choice == kind || (options.choice == TransportChoice::kAuto &&
                                   (kind != TransportChoice::kRdma || HasRdmaDevices()) &&
                                   (kind != TransportChoice::kShm || !options.machine_id.empty()));
    if (!wanted) continue;
    if (const absl::Status status = UcxContext::Create(kind, "", cuda).status(); status.ok()) {
      kinds |= Bit(kind);
    } else {
      last = status;
    }
  }
  if (kinds == 0) return last;
  return std::make_unique<UcxFactory>(std::move(options.machine_id), kinds, cuda);
}

}  // namespace baton
