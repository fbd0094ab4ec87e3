#include "kvtransfer/kv_receiver.h"

#include <atomic>
#include <map>
#include <utility>
#include <variant>

#include "common/check.h"
#include "common/crypto.h"
#include "common/mailbox.h"
#include "common/strings.h"
#include "kvtransfer/block_access.h"
#include "kvtransfer/core/receiver_core.h"
#include "kvtransfer/kv_copy_reports.h"
#include "kvtransfer/transfer_loop.h"
#include "kvtransfer/transfer_metrics.h"

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
  if (options.memory.staging != nullptr) core.max_transfers = kMaxStagedTransfers;
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
        core_options_(CoreOptions(options)),
        core_(core_options_),
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
    ASSIGN_OR_RETURN(
        blocks_, MakeBlockAccess(options_.memory, {.views = core_options_.max_transfers,
                                                   .view_bytes = core_options_.MessageBytes()}));
    for (const MemorySpan& span : blocks_->Memory()) {
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
    const bool copied = blocks_->Progress();
    const bool commanded = HandleCommands();
    if (core_.NextDeadline() <= now) core_.Tick(now);
    const bool acted = CarryOut();
    copies_.EndRound(*blocks_, copied);
    return acted || commanded || copied;
  }
  // Copies are asked about, they do not call.
  absl::Time NextDeadline() const override {
    return blocks_->idle() ? core_.NextDeadline() : absl::InfinitePast();
  }

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
    auto node = payloads_.extract(accept.payload);
    BATON_CHECK(!node.empty()) << accept.payload;
    const BlockAccess::View view = blocks_->Prepare(accept.layer, accept.blocks);
    node.mapped()->Accept(view.spans, [this, accept, view](absl::Status status) {
      if (status.ok()) return Place(accept, view);
      Received(accept, view, /*ok=*/false, /*checksum=*/0);
    });
  }
  // The payload is in `view`. It may be put into the blocks before its checksum is looked at: they
  // are this handoff's, and nobody reads them unless it is sealed.
  void Place(const AcceptPayload& accept, const BlockAccess::View& view) {
    blocks_->Write(view, accept.layer, accept.blocks,
                   [this, accept, view](absl::StatusOr<uint64_t> checksum) {
                     if (checksum.ok()) {
                       metrics_.Copied(options_.memory, view.spans[0].length_bytes);
                     } else {
                       log_.Error("kv_copy_failed", {{"message", checksum.status().ToString()}});
                       copies_.Failed(checksum.status());
                     }
                     Received(accept, view, checksum.ok(), checksum.value_or(0));
                   });
  }
  void Received(const AcceptPayload& accept, const BlockAccess::View& view, bool ok,
                uint64_t checksum) {
    blocks_->Release(view);
    core_.ReceiveDone(accept.receive, ok, checksum, clock_.Now());
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
    copies_.Settle(*blocks_);                              // and what they still write
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
  const HandoffCoreOptions core_options_;
  const std::string ticket_key_ = RandomBytes(32);  // known to nobody else, never used again
  std::atomic<uint64_t> next_generation_ = 1;
  PeerAddress address_;  // written before Start returns

  // The loop's thread only, from here on.
  const KvCopyReports copies_{options_.copies, clock_};
  std::unique_ptr<BlockAccess> blocks_;  // from Begin on; outlives the transport
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
