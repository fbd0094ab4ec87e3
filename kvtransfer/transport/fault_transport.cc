#include "kvtransfer/transport/fault_transport.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/hash.h"

namespace baton {
namespace {

using DoneFn = std::function<void(absl::Status)>;

// Decides; counts rounds. Shared by a transport and everything that it has made.
struct Schedule {
  FaultRates rates;
  uint64_t seed = 0;
  uint64_t drawn = 0;
  int64_t round = 0;

  uint64_t Draw() { return HashCombine(seed, ++drawn); }
  bool Strikes(int percent) { return percent > 0 && Draw() % 100 < static_cast<uint64_t>(percent); }
  int64_t LaterRound() {
    return round + 1 + static_cast<int64_t>(Draw() % static_cast<uint64_t>(rates.max_delay_rounds));
  }
};

// Something to be done at a round, or to be given up with the connection.
struct Held {
  int64_t due_round = 0;
  std::function<void()> run;
  std::function<void()> give_up;
};

// What a connection still holds back. Shared with payloads, which may outlive the connection.
struct HeldBack {
  bool open = true;
  std::vector<Held> items;
};

class FaultPayload final : public IncomingPayload {
 public:
  FaultPayload(std::shared_ptr<Schedule> schedule, std::shared_ptr<HeldBack> held,
               std::unique_ptr<IncomingPayload> inner)
      : schedule_(std::move(schedule)), held_(std::move(held)), inner_(std::move(inner)) {}
  size_t length_bytes() const override { return inner_->length_bytes(); }

  void Accept(std::span<const MemorySpan> pieces, DoneFn done) override {
    if (!held_->open || !schedule_->Strikes(schedule_->rates.late_percent)) {
      return inner_->Accept(pieces, std::move(done));
    }
    std::shared_ptr<IncomingPayload> inner = std::move(inner_);  // shared by the two functions
    held_->items.push_back(
        {schedule_->LaterRound(),
         [inner, done, copy = std::vector<MemorySpan>(pieces.begin(), pieces.end())] {
           inner->Accept(copy, done);
         },
         [inner, done] {
           inner->Refuse();
           done(absl::CancelledError("the connection was destroyed"));
         }});
  }
  void Refuse() override { inner_->Refuse(); }

 private:
  const std::shared_ptr<Schedule> schedule_;  // shared with the transport
  const std::shared_ptr<HeldBack> held_;      // shared with the connection
  std::unique_ptr<IncomingPayload> inner_;
};

class FaultTransport;

class FaultConnection final : public Connection, public ConnectionObserver {
 public:
  FaultConnection(FaultTransport& transport, std::shared_ptr<Schedule> schedule,
                  ConnectionObserver* observer);
  ~FaultConnection() override;

  void set_inner(std::unique_ptr<Connection> inner) { inner_ = std::move(inner); }
  void set_observer(ConnectionObserver* observer) { observer_ = observer; }

  void Send(std::span<const std::byte> header, std::span<const MemorySpan> pieces,
            DoneFn done) override;
  std::string transport_name() const override {
    return name_.empty() ? inner_->transport_name() : name_;
  }

  void OnMessage(Connection&, std::span<const std::byte> header,
                 std::unique_ptr<IncomingPayload> payload) override {
    if (severing_) return;
    if (payload != nullptr) {
      payload = std::make_unique<FaultPayload>(schedule_, held_, std::move(payload));
    }
    observer_->OnMessage(*this, header, std::move(payload));
  }
  void OnDisconnect(Connection&, absl::Status reason) override {
    if (std::exchange(told_, true)) return;
    observer_->OnDisconnect(*this, std::move(reason));
  }

  bool RunDue();
  bool holds() const { return severing_ || !held_->items.empty(); }

 private:
  void Later(int64_t due_round, std::function<void()> run, std::function<void()> give_up) {
    held_->items.push_back({due_round, std::move(run), std::move(give_up)});
  }
  void SendTwice(std::span<const std::byte> header, std::span<const MemorySpan> pieces,
                 DoneFn done);
  void SendCorrupted(std::span<const std::byte> header, std::span<const MemorySpan> pieces,
                     DoneFn done);

  FaultTransport& transport_;
  const std::shared_ptr<Schedule> schedule_;  // shared with the transport
  const std::shared_ptr<HeldBack> held_ = std::make_shared<HeldBack>();  // shared with payloads
  ConnectionObserver* observer_;
  std::unique_ptr<Connection> inner_;  // null once severed
  std::string name_;                   // kept when severed
  bool severing_ = false;
  bool told_ = false;
};

class FaultTransport final : public Transport {
 public:
  FaultTransport(std::unique_ptr<Transport> inner, std::shared_ptr<Schedule> schedule)
      : inner_(std::move(inner)), schedule_(std::move(schedule)) {}

  absl::StatusOr<PeerAddress> Listen(const std::string& host, int32_t port,
                                     AcceptFn accepted) override {
    return inner_->Listen(host, port, [this, accepted](std::unique_ptr<Connection> inner) {
      auto connection = std::make_unique<FaultConnection>(*this, schedule_, nullptr);
      connection->set_inner(std::move(inner));
      FaultConnection* raw = connection.get();
      raw->set_observer(accepted(std::move(connection)));
      return raw;
    });
  }
  absl::StatusOr<std::unique_ptr<Connection>> Connect(const PeerAddress& peer,
                                                      ConnectionObserver* observer) override {
    auto connection = std::make_unique<FaultConnection>(*this, schedule_, observer);
    ASSIGN_OR_RETURN(auto inner, inner_->Connect(peer, connection.get()));
    connection->set_inner(std::move(inner));
    return connection;
  }
  bool Progress() override {
    ++schedule_->round;
    bool any = inner_->Progress();
    for (size_t i = 0; i < connections_.size(); ++i) any |= connections_[i]->RunDue();
    return any;
  }
  void Wait(absl::Duration timeout) override {
    const bool holds = std::any_of(connections_.begin(), connections_.end(),
                                   [](const FaultConnection* c) { return c->holds(); });
    if (!holds) inner_->Wait(timeout);
  }
  void Wake() override { inner_->Wake(); }
  absl::Status RegisterMemory(MemorySpan memory) override { return inner_->RegisterMemory(memory); }

  void Add(FaultConnection* connection) { connections_.push_back(connection); }
  void Remove(FaultConnection* connection) { std::erase(connections_, connection); }

 private:
  const std::unique_ptr<Transport> inner_;
  const std::shared_ptr<Schedule> schedule_;  // shared with connections and payloads
  std::vector<FaultConnection*> connections_;
};

FaultConnection::FaultConnection(FaultTransport& transport, std::shared_ptr<Schedule> schedule,
                                 ConnectionObserver* observer)
    : transport_(transport), schedule_(std::move(schedule)), observer_(observer) {
  transport_.Add(this);
}

FaultConnection::~FaultConnection() {
  transport_.Remove(this);
  held_->open = false;
  for (Held& held : std::exchange(held_->items, {})) held.give_up();
  inner_.reset();
}

void FaultConnection::Send(std::span<const std::byte> header, std::span<const MemorySpan> pieces,
                           DoneFn done) {
  const FaultRates& rates = schedule_->rates;
  const auto give_up = [done] { done(absl::CancelledError("the connection was destroyed")); };
  if (inner_ == nullptr || severing_) {
    const auto fail = [done] { done(absl::UnavailableError("disconnected by schedule")); };
    return Later(schedule_->round + 1, fail, fail);
  }
  if (schedule_->Strikes(rates.disconnect_percent)) {
    severing_ = true;
    const auto fail = [done] { done(absl::UnavailableError("disconnected by schedule")); };
    return Later(schedule_->round + 1, fail, fail);
  }
  if (schedule_->Strikes(rates.drop_percent)) {
    return Later(
        schedule_->round + 1, [done] { done(absl::OkStatus()); }, give_up);
  }
  if (schedule_->Strikes(rates.delay_percent)) {
    return Later(
        schedule_->LaterRound(),
        [this, done, copy = std::vector<std::byte>(header.begin(), header.end()),
         spans = std::vector<MemorySpan>(pieces.begin(), pieces.end())] {
          if (inner_ == nullptr) return done(absl::UnavailableError("disconnected by schedule"));
          inner_->Send(copy, spans, done);
        },
        give_up);
  }
  if (schedule_->Strikes(rates.duplicate_percent))
    return SendTwice(header, pieces, std::move(done));
  if (!pieces.empty() && schedule_->Strikes(rates.corrupt_percent)) {
    return SendCorrupted(header, pieces, std::move(done));
  }
  inner_->Send(header, pieces, std::move(done));
}

void FaultConnection::SendTwice(std::span<const std::byte> header,
                                std::span<const MemorySpan> pieces, DoneFn done) {
  struct Both {
    int missing = 2;
    absl::Status status;
  };
  auto both = std::make_shared<Both>();  // shared by the two sends
  const auto one = [both, done = std::move(done)](absl::Status status) {
    both->status.Update(status);
    if (--both->missing == 0) done(both->status);
  };
  inner_->Send(header, pieces, one);
  inner_->Send(header, pieces, one);
}

void FaultConnection::SendCorrupted(std::span<const std::byte> header,
                                    std::span<const MemorySpan> pieces, DoneFn done) {
  auto copy = std::make_shared<std::vector<std::byte>>();  // lives until the send is done
  for (const MemorySpan& piece : pieces) {
    copy->insert(copy->end(), piece.data, piece.data + piece.length_bytes);
  }
  if (!copy->empty()) (*copy)[schedule_->Draw() % copy->size()] ^= std::byte{0x10};
  const MemorySpan span{copy->data(), copy->size()};
  inner_->Send(header, std::span(&span, 1),
               [copy, done = std::move(done)](absl::Status status) { done(std::move(status)); });
}

bool FaultConnection::RunDue() {
  bool any = false;
  if (severing_ && inner_ != nullptr) {
    any = true;
    name_ = inner_->transport_name();
    inner_.reset();
    if (!std::exchange(told_, true)) {
      observer_->OnDisconnect(*this, absl::UnavailableError("disconnected by schedule"));
    }
  }
  std::vector<Held> due;
  auto& items = held_->items;
  for (size_t i = 0; i < items.size();) {
    if (items[i].due_round <= schedule_->round) {
      due.push_back(std::move(items[i]));
      items.erase(items.begin() + static_cast<ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  for (Held& held : due) held.run();
  return any || !due.empty();
}

class FaultFactory final : public TransportFactory {
 public:
  FaultFactory(TransportFactory& inner, FaultRates rates, uint64_t seed)
      : inner_(inner), rates_(rates), seed_(seed) {}
  absl::StatusOr<std::unique_ptr<Transport>> Create() override {
    ASSIGN_OR_RETURN(auto inner, inner_.Create());
    auto schedule = std::make_shared<Schedule>();
    schedule->rates = rates_;
    schedule->seed = HashCombine(seed_, ++made_);
    return std::make_unique<FaultTransport>(std::move(inner), std::move(schedule));
  }

 private:
  TransportFactory& inner_;
  const FaultRates rates_;
  const uint64_t seed_;
  uint64_t made_ = 0;
};

}  // namespace

std::unique_ptr<TransportFactory> MakeFaultFactory(TransportFactory& inner, FaultRates rates,
                                                   uint64_t seed) {
  return std::make_unique<FaultFactory>(inner, rates, seed);
}

}  // namespace baton
