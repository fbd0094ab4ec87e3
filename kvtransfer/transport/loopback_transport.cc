#include "kvtransfer/transport/loopback_transport.h"

#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/check.h"

namespace baton {
namespace {

// What one thread posts to another: runs on the receiver's thread inside Progress.
using Task = std::function<void()>;

// The inbox of one transport. Thread-safe.
class Inbox {
 public:
  void Post(Task task) {
    absl::MutexLock lock(&mutex_);
    if (!closed_) tasks_.push_back(std::move(task));
  }
  // Drops what is queued, and what will be: tasks hold links, and links hold inboxes.
  void Close() {
    std::deque<Task> dropped;
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    dropped.swap(tasks_);
  }
  std::deque<Task> TakeAll() {
    absl::MutexLock lock(&mutex_);
    return std::exchange(tasks_, {});
  }
  void Wake() {
    absl::MutexLock lock(&mutex_);
    woken_ = true;
  }
  void Wait(absl::Duration timeout) {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &Inbox::Ready), timeout);
    woken_ = false;
  }

 private:
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return woken_ || !tasks_.empty(); }

  absl::Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

class LoopbackConnection;

// One posted send, shared by its sender, which owns the memory, and its receiver, which copies it.
// The mutex is held while bytes are copied: a sender that ends the send waits for that copy.
struct SharedSend {
  absl::Mutex mutex;
  bool open ABSL_GUARDED_BY(mutex) = true;  // the pieces may still be read
  std::vector<MemorySpan> pieces ABSL_GUARDED_BY(mutex);
  size_t length_bytes = 0;
};

// The two ends of a connection, as each sees the other. Thread-safe.
struct Link {
  struct End {
    std::shared_ptr<Inbox> inbox;
    LoopbackConnection* connection = nullptr;  // null before it is accepted and once destroyed
    bool destroyed = false;
  };
  absl::Mutex mutex;
  End ends[2] ABSL_GUARDED_BY(mutex);
};

class LoopbackConnection final : public Connection {
 public:
  LoopbackConnection(std::shared_ptr<Link> link, int side) : link_(std::move(link)), side_(side) {}
  ~LoopbackConnection() override;

  void set_observer(ConnectionObserver* observer) { observer_ = observer; }
  void Send(std::span<const std::byte> header, std::span<const MemorySpan> pieces,
            std::function<void(absl::Status)> done) override;
  std::string transport_name() const override { return "loopback"; }

  // On this end's thread.
  void Deliver(const std::string& header, const std::shared_ptr<SharedSend>& send);
  void SendEnded(const std::shared_ptr<SharedSend>& send, const absl::Status& status);
  void PeerGone(const std::string& reason);

 private:
  const std::shared_ptr<Link> link_;  // shared with the other end
  const int side_;
  ConnectionObserver* observer_ = nullptr;
  bool disconnected_ = false;
  std::map<std::shared_ptr<SharedSend>, std::function<void(absl::Status)>> sends_;
};

// Runs `task(connection)` on the thread of that end, unless the end is destroyed before.
void PostToEnd(const std::shared_ptr<Link>& link, int side,
               std::function<void(LoopbackConnection&)> task) {
  absl::MutexLock lock(&link->mutex);
  const Link::End& end = link->ends[side];
  if (end.inbox == nullptr || end.destroyed) return;
  end.inbox->Post([link, side, task = std::move(task)] {
    LoopbackConnection* connection = nullptr;
    {
      absl::MutexLock inner(&link->mutex);
      connection = link->ends[side].connection;
    }
    // This is its own thread, and only that thread destroys it.
    if (connection != nullptr) task(*connection);
  });
}

class LoopbackPayload final : public IncomingPayload {
 public:
  LoopbackPayload(std::shared_ptr<Link> link, int sender_side, std::shared_ptr<SharedSend> send)
      : link_(std::move(link)), sender_side_(sender_side), send_(std::move(send)) {}
  ~LoopbackPayload() override {
    if (!answered_) Refuse();
  }
  size_t length_bytes() const override { return send_->length_bytes; }

  void Accept(std::span<const MemorySpan> pieces, std::function<void(absl::Status)> done) override {
    answered_ = true;
    const bool copied = Copy(pieces);
    if (copied) Complete();
    done(copied ? absl::OkStatus() : absl::UnavailableError("the sender has gone"));
  }
  void Refuse() override {
    answered_ = true;
    Complete();  // as over UCX, the sender cannot tell a refusal from an arrival
  }

 private:
  bool Copy(std::span<const MemorySpan> pieces) {
    absl::MutexLock lock(&send_->mutex);
    if (!send_->open) return false;
    auto from = send_->pieces.begin();
    size_t from_at = 0;
    for (const MemorySpan& piece : pieces) {
      for (size_t at = 0; at < piece.length_bytes;) {
        const size_t bytes = std::min(piece.length_bytes - at, from->length_bytes - from_at);
        std::memcpy(piece.data + at, from->data + from_at, bytes);
        at += bytes;
        from_at += bytes;
        if (from_at == from->length_bytes) {
          ++from;
          from_at = 0;
        }
      }
    }
    return true;
  }
  void Complete() {
    PostToEnd(link_, sender_side_, [send = send_](LoopbackConnection& sender) {
      sender.SendEnded(send, absl::OkStatus());
    });
  }

  const std::shared_ptr<Link> link_;  // shared with both connections
  const int sender_side_;
  const std::shared_ptr<SharedSend> send_;  // shared with the sender
  bool answered_ = false;
};

LoopbackConnection::~LoopbackConnection() {
  {
    absl::MutexLock lock(&link_->mutex);
    link_->ends[side_].connection = nullptr;
    link_->ends[side_].destroyed = true;
  }
  for (auto& [send, done] : std::exchange(sends_, {})) {
    {
      absl::MutexLock lock(&send->mutex);
      send->open = false;
      send->pieces.clear();
    }
    done(absl::CancelledError("the connection was destroyed"));
  }
  PostToEnd(link_, 1 - side_, [](LoopbackConnection& peer) { peer.PeerGone("the peer has gone"); });
}

void LoopbackConnection::Send(std::span<const std::byte> header, std::span<const MemorySpan> pieces,
                              std::function<void(absl::Status)> done) {
  BATON_CHECK(header.size() <= kMaxHeaderBytes) << header.size();
  std::string bytes(reinterpret_cast<const char*>(header.data()), header.size());
  auto send = std::make_shared<SharedSend>();
  {
    absl::MutexLock lock(&send->mutex);
    for (const MemorySpan& piece : pieces) {
      if (piece.length_bytes == 0) continue;
      send->pieces.push_back(piece);
      send->length_bytes += piece.length_bytes;
    }
  }
  sends_[send] = std::move(done);
  if (disconnected_) {
    PostToEnd(link_, side_, [send](LoopbackConnection& self) {
      self.SendEnded(send, absl::UnavailableError("the peer has gone"));
    });
    return;
  }
  PostToEnd(link_, 1 - side_, [bytes = std::move(bytes), send](LoopbackConnection& peer) {
    peer.Deliver(bytes, send);
  });
  if (send->length_bytes == 0) {
    PostToEnd(link_, side_,
              [send](LoopbackConnection& self) { self.SendEnded(send, absl::OkStatus()); });
  }
}

void LoopbackConnection::Deliver(const std::string& header,
                                 const std::shared_ptr<SharedSend>& send) {
  if (disconnected_) return;
  std::unique_ptr<IncomingPayload> payload;
  if (send->length_bytes > 0) payload = std::make_unique<LoopbackPayload>(link_, 1 - side_, send);
  observer_->OnMessage(*this, std::as_bytes(std::span(header)), std::move(payload));
}

void LoopbackConnection::SendEnded(const std::shared_ptr<SharedSend>& send,
                                   const absl::Status& status) {
  const auto it = sends_.find(send);
  if (it == sends_.end()) return;
  auto done = std::move(it->second);
  sends_.erase(it);
  {
    absl::MutexLock lock(&send->mutex);
    send->open = false;
    send->pieces.clear();
  }
  done(status);
}

void LoopbackConnection::PeerGone(const std::string& reason) {
  if (std::exchange(disconnected_, true)) return;
  observer_->OnDisconnect(*this, absl::UnavailableError(reason));
}

}  // namespace

// `Accept` runs on the listening transport's thread.
class LoopbackHub {
 public:
  struct Listener {
    std::shared_ptr<Inbox> inbox;  // shared with the listening transport
    std::function<void(std::shared_ptr<Link>)> accept;
  };
  absl::StatusOr<int32_t> Add(const std::string& host, int32_t port, Listener listener) {
    absl::MutexLock lock(&mutex_);
    while (port == 0 || (port < 0 && listeners_.contains({host, port}))) port = next_port_++;
    if (!listeners_.try_emplace({host, port}, std::move(listener)).second) {
      return absl::AlreadyExistsError(absl::StrCat("loopback port ", port, " is in use"));
    }
    return port;
  }
  void Remove(const std::string& host, int32_t port) {
    absl::MutexLock lock(&mutex_);
    listeners_.erase({host, port});
  }
  bool Connect(const PeerAddress& peer, const std::shared_ptr<Link>& link) {
    absl::MutexLock lock(&mutex_);
    const auto it = listeners_.find({peer.host, peer.port});
    if (it == listeners_.end()) return false;
    {
      absl::MutexLock link_lock(&link->mutex);
      link->ends[1].inbox = it->second.inbox;
    }
    it->second.inbox->Post([accept = it->second.accept, link] { accept(link); });
    return true;
  }

 private:
  absl::Mutex mutex_;
  int32_t next_port_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<std::pair<std::string, int32_t>, Listener> listeners_ ABSL_GUARDED_BY(mutex_);
};

namespace {

class LoopbackTransport final : public Transport {
 public:
  explicit LoopbackTransport(std::shared_ptr<LoopbackHub> hub) : hub_(std::move(hub)) {}
  ~LoopbackTransport() override {
    for (const auto& [host, port] : listening_) hub_->Remove(host, port);
    inbox_->Close();
  }

  absl::StatusOr<PeerAddress> Listen(const std::string& host, int32_t port,
                                     AcceptFn accepted) override {
    auto accept = [accepted = std::move(accepted)](std::shared_ptr<Link> link) {
      auto connection = std::make_unique<LoopbackConnection>(link, 1);
      LoopbackConnection* raw = connection.get();
      Attach(*link, 1, raw);
      raw->set_observer(accepted(std::move(connection)));
    };
    ASSIGN_OR_RETURN(const int32_t bound, hub_->Add(host, port, {inbox_, std::move(accept)}));
    listening_.insert({host, bound});
    return PeerAddress{host, bound, 0, "loopback"};
  }

  absl::StatusOr<std::unique_ptr<Connection>> Connect(const PeerAddress& peer,
                                                      ConnectionObserver* observer) override {
    auto link = std::make_shared<Link>();
    {
      absl::MutexLock lock(&link->mutex);
      link->ends[0].inbox = inbox_;
    }
    auto connection = std::make_unique<LoopbackConnection>(link, 0);
    connection->set_observer(observer);
    Attach(*link, 0, connection.get());
    if (!hub_->Connect(peer, link)) {
      PostToEnd(link, 0, [](LoopbackConnection& self) { self.PeerGone("nobody listens there"); });
    }
    return connection;
  }

  bool Progress() override {
    const std::deque<Task> tasks = inbox_->TakeAll();
    for (const Task& task : tasks) task();
    return !tasks.empty();
  }
  void Wait(absl::Duration timeout) override { inbox_->Wait(timeout); }
  void Wake() override { inbox_->Wake(); }
  absl::Status RegisterMemory(MemorySpan) override { return absl::OkStatus(); }

 private:
  static void Attach(Link& link, int side, LoopbackConnection* connection) {
    absl::MutexLock lock(&link.mutex);
    link.ends[side].connection = connection;
  }

  const std::shared_ptr<LoopbackHub> hub_;                          // shared with the factory
  const std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();  // shared with hub and links
  std::set<std::pair<std::string, int32_t>> listening_;
};

class LoopbackFactory final : public TransportFactory {
 public:
  explicit LoopbackFactory(std::shared_ptr<LoopbackHub> hub) : hub_(std::move(hub)) {}
  absl::StatusOr<std::unique_ptr<Transport>> Create() override {
    return std::make_unique<LoopbackTransport>(hub_);
  }

 private:
  const std::shared_ptr<LoopbackHub> hub_;  // shared with its transports
};

}  // namespace

std::shared_ptr<LoopbackHub> MakeLoopbackHub() { return std::make_shared<LoopbackHub>(); }

std::unique_ptr<TransportFactory> MakeLoopbackFactory(std::shared_ptr<LoopbackHub> hub) {
  return std::make_unique<LoopbackFactory>(std::move(hub));
}

}  // namespace baton
