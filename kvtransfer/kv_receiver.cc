#include "kvtransfer/kv_receiver.h"

#include <atomic>
#include <map>
#include <utility>
#include <variant>

#include "common/check.h"
#include "common/crypto.h"
#include "common/mailbox.h"
#include "common/strings.h"
#include "kvtransfer/core/receiver_core.h"
#include "kvtransfer/region_spans.h"
#include "kvtransfer/transfer_loop.h"
#include "kvtransfer/transfer_metrics.h"
#include "kvtransfer/transport/checksum.h"

namespace baton {
namespace {

// Two commands a handoff, and a handoff holds at least one request of a bounded engine.
constexpr size_t kMailboxCapacity = size_t{1} << 20;

HandoffCoreOptions CoreOptions(const KvReceiverOptions& options) {
  HandoffCoreOptions core;
  core.layout = options.memory.layout;
  core.num_blocks = options.memory.num_blocks;
  core.layout_fingerprint = options.memory.layout.Fingerprint(options.model_fingerprint);
  core.boot = options.boot;
  core.worker_name = options.worker_name;
  core.max_bytes_in_flight = options.max_bytes_in_flight;
  core.peer_timeout = options.peer_timeout;
  return core;
}

class KvReceiverShell final : public KvReceiver, private TransferLoopClient {
 public:
  KvReceiverShell(const KvReceiverOptions& options, TransportFactory& transports,
                  const Clock& clock, Logger& log, MetricRegistry& metrics,
                  std::function<void(ReceiverEvent)> events)
      : options_(options),
        clock_(clock),
        log_(log),
        metrics_(metrics, TransferMetrics::Side::kReceive, options.worker_name),
        events_(std::move(events)),
        spans_(options.memory),
        core_(CoreOptions(options)),
        mailbox_(kMailboxCapacity, [this] { loop_.Wake(); }),
        loop_("kv-recv", transports, clock, *this) {}
  ~KvReceiverShell() override { loop_.Stop(); }

  absl::Status Start() { return loop_.Start(); }
  PeerAddress address() const override { return address_; }

  Ticket Open(LandingSpec spec) override {
    Ticket ticket;
    ticket.key = spec.key;
    ticket.receiver_boot = options_.boot;
    ticket.generation = next_generation_.fetch_add(1, std::memory_order_relaxed);
    ticket.layout_fingerprint = options_.memory.layout.Fingerprint(options_.model_fingerprint);
    ticket.first_block = spec.first_block;
    ticket.num_blocks = static_cast<int32_t>(spec.blocks.size());
    ticket.mac = SignTicket(ticket, ticket_key_);
    BATON_CHECK(mailbox_.Push(OpenCommand{std::move(spec), ticket})) << "kv-recv does not keep up";
    return ticket;
  }
  void Abort(RequestKey key) override {
    BATON_CHECK(mailbox_.Push(AbortCommand{key})) << "kv-recv does not keep up";
  }

 private:
  struct OpenCommand {
    LandingSpec spec;
    Ticket ticket;
  };
  struct AbortCommand {
    RequestKey key;
  };
  using Command = std::variant<OpenCommand, AbortCommand>;

  // One accepted connection.
  struct Link final : ConnectionObserver {
    Link(KvReceiverShell& owner, ConnectionId connection_id) : shell(owner), id(connection_id) {}
    void OnMessage(Connection&, std::span<const std::byte> header,
                   std::unique_ptr<IncomingPayload> payload) override {
      shell.Arrived(id, header, std::move(payload));
    }
    void OnDisconnect(Connection&, absl::Status reason) override {
      shell.core_.Disconnected(id, View(reason.message()), shell.clock_.Now());
    }
    KvReceiverShell& shell;
    const ConnectionId id;
    std::unique_ptr<Connection> connection;
  };

  absl::Status Begin(Transport& transport) override {
    for (const MemorySpan& span : spans_.All()) {
      RETURN_IF_ERROR(transport.RegisterMemory(span));
    }
    ASSIGN_OR_RETURN(address_, transport.Listen(options_.bind_host, options_.port,
                                                [this](std::unique_ptr<Connection> connection) {
                                                  return Accepted(std::move(connection));
                                                }));
    address_.boot_id = options_.boot.value();
    return absl::OkStatus();
  }

  ConnectionObserver* Accepted(std::unique_ptr<Connection> connection) {
    const ConnectionId id(next_connection_++);
    auto link = std::make_unique<Link>(*this, id);
    link->connection = std::move(connection);
    core_.ConnectionUp(id, link->connection->transport_name(), clock_.Now());
    log_.Info("kv_peer_connected",
              {{"connection", id.value()}, {"transport", link->connection->transport_name()}});
    return (links_[id] = std::move(link)).get();
  }

  void Arrived(ConnectionId id, std::span<const std::byte> header,
               std::unique_ptr<IncomingPayload> payload) {
    // The Open of a ticket was posted before anybody could send with it, so it is here by now.
    HandleCommands();
    std::optional<ReceiverCore::Payload> announced;
    if (payload != nullptr) {
      announced = {PayloadId(next_payload_++), payload->length_bytes()};
      payloads_[announced->id] = std::move(payload);
    }
    core_.MessageArrived(id, {reinterpret_cast<const char*>(header.data()), header.size()},
                         announced, clock_.Now());
  }

  bool HandleCommands() {
    const std::vector<Command> commands = mailbox_.TakeAll();
    for (const Command& command : commands) {
      if (const auto* open = std::get_if<OpenCommand>(&command)) {
        core_.Open(open->spec, open->ticket, clock_.Now());
      } else {
        core_.Abort(std::get<AbortCommand>(command).key, clock_.Now());
      }
    }
    return !commands.empty();
  }

  bool Step(absl::Time now) override {
    const bool commanded = HandleCommands();
    if (core_.NextDeadline() <= now) core_.Tick(now);
    return CarryOut() || commanded;
  }
  absl::Time NextDeadline() const override { return core_.NextDeadline(); }

  void Finish(absl::Time now) override {
    mailbox_.Close();
    HandleCommands();
    core_.Shutdown(now);
    CarryOut();
  }

  // Actions may cause events, and those further actions.
  bool CarryOut() {
    bool any = false;
    while (true) {
      std::vector<ReceiverAction> actions = core_.TakeActions();
      if (actions.empty()) return any;
      any = true;
      for (ReceiverAction& action : actions) {
        std::visit([this](auto& what) { Do(what); }, action);
      }
    }
  }

  void Do(AcceptPayload& accept) {
    auto spans = spans_.Of(accept.layer, accept.blocks);
    auto node = payloads_.extract(accept.payload);
    BATON_CHECK(!node.empty()) << accept.payload;
    node.mapped()->Accept(spans, [this, receive = accept.receive, spans](absl::Status status) {
      const uint64_t checksum = status.ok() ? ChecksumPieces(spans) : 0;
      core_.ReceiveDone(receive, status.ok(), checksum, clock_.Now());
    });
  }
  void Do(RefusePayload& refuse) {
    auto node = payloads_.extract(refuse.payload);
    BATON_CHECK(!node.empty()) << refuse.payload;
    node.mapped()->Refuse();
  }
  void Do(SendControl& send) {
    const auto it = links_.find(send.connection);
    if (it == links_.end()) return;
    it->second->connection->Send(std::as_bytes(std::span(send.header)), {}, [](absl::Status) {});
  }
  void Do(CloseConnection& close) {
    log_.Info("kv_peer_closed",
              {{"connection", close.connection.value()}, {"reason", close.reason}});
    auto node = links_.extract(close.connection);
    if (!node.empty()) node.mapped()->connection.reset();  // ends its receives
    core_.ConnectionDestroyed(close.connection, clock_.Now());
  }
  void Do(EmitReceiverEvent& emit) {
    const RequestKey& key = emit.event.key;
    if (const auto* sealed = std::get_if<ReceiverEvent::Sealed>(&emit.event.what)) {
      metrics_.Sealed(sealed->stats, emit.peer_name);
      log_.Debug("kv_sealed", {{"request", key},
                               {"bytes", sealed->stats.bytes},
                               {"transport", sealed->stats.transport}});
    } else if (const auto* failed = std::get_if<ReceiverEvent::Failed>(&emit.event.what)) {
      metrics_.Failed(failed->failure);
      const auto level =
          failed->failure == HandoffFailure::kAborted ? LogLevel::kDebug : LogLevel::kWarning;
      log_.Write(level, "kv_receive_failed",
                 {{"request", key},
                  {"reason", HandoffFailureName(failed->failure)},
                  {"peer", emit.peer_name},
                  {"message", failed->message}});
    }
    events_(std::move(emit.event));
  }

  const KvReceiverOptions options_;
  const Clock& clock_;
  Logger& log_;
  TransferMetrics metrics_;
  const std::function<void(ReceiverEvent)> events_;
  const RegionSpans spans_;
  const std::string ticket_key_ = RandomBytes(32);  // known to nobody else, never used again
  std::atomic<uint64_t> next_generation_ = 1;
  PeerAddress address_;  // written before Start returns

  // The loop's thread only, from here on.
  ReceiverCore core_;
  uint64_t next_connection_ = 1;
  uint64_t next_payload_ = 1;
  std::map<ConnectionId, std::unique_ptr<Link>> links_;
  std::map<PayloadId, std::unique_ptr<IncomingPayload>> payloads_;

  Mailbox<Command> mailbox_;
  TransferLoop loop_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<KvReceiver>> KvReceiver::Create(
    const KvReceiverOptions& options, TransportFactory& transports, const Clock& clock, Logger& log,
    MetricRegistry& metrics, std::function<void(ReceiverEvent)> events) {
  auto shell = std::make_unique<KvReceiverShell>(options, transports, clock, log, metrics,
                                                 std::move(events));
  RETURN_IF_ERROR(shell->Start());
  return shell;
}

}  // namespace baton
