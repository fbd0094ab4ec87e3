#include "kvtransfer/kv_sender.h"

#include <map>
#include <utility>
#include <variant>

#include "common/check.h"
#include "common/mailbox.h"
#include "common/strings.h"
#include "kvtransfer/block_access.h"
#include "kvtransfer/core/sender_core.h"
#include "kvtransfer/kv_copy_reports.h"
#include "kvtransfer/transfer_loop.h"
#include "kvtransfer/transfer_metrics.h"

namespace baton {
namespace {

// A push names at least one block of one layer that nobody pushed before, so the pool bounds it.
constexpr size_t kMailboxCapacity = size_t{1} << 20;

HandoffCoreOptions CoreOptions(const KvSenderOptions& options) {
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

class KvSenderShell final : public KvSender, private TransferLoopClient {
 public:
  KvSenderShell(const KvSenderOptions& options, TransportFactory& transports, const Clock& clock,
                Logger& log, MetricRegistry& metrics, std::function<void(SenderEvent)> events)
      : options_(options),
        clock_(clock),
        log_(log),
        metrics_(metrics, TransferMetrics::Side::kSend, options.worker_name),
        events_(std::move(events)),
        core_options_(CoreOptions(options)),
        core_(core_options_),
        mailbox_(kMailboxCapacity, [this] { loop_.Wake(); }),
        loop_("kv-send", transports, clock, *this) {}
  ~KvSenderShell() override { loop_.Stop(); }

  absl::Status Start() { return loop_.Start(); }

  void Open(SendSpec spec) override { Post(OpenCommand{std::move(spec)}); }
  void Push(RequestKey key, int32_t layer, int32_t first_block,
            std::vector<BlockId> blocks) override {
    Post(PushCommand{key, layer, first_block, std::move(blocks)});
  }
  void Finish(RequestKey key, HandoffTail tail) override {
    Post(FinishCommand{key, std::move(tail)});
  }
  void Abort(RequestKey key) override { Post(AbortCommand{key}); }

 private:
  struct OpenCommand {
    SendSpec spec;
  };
  struct PushCommand {
    RequestKey key;
    int32_t layer;
    int32_t first_block;
    std::vector<BlockId> blocks;
  };
  struct FinishCommand {
    RequestKey key;
    HandoffTail tail;
  };
  struct AbortCommand {
    RequestKey key;
  };
  using Command = std::variant<OpenCommand, PushCommand, FinishCommand, AbortCommand>;

  // One connection that was opened.
  struct Link final : ConnectionObserver {
    Link(KvSenderShell& owner, ConnectionId connection_id) : shell(owner), id(connection_id) {}
    void OnMessage(Connection&, std::span<const std::byte> header,
                   std::unique_ptr<IncomingPayload> payload) override {
      if (payload != nullptr) payload->Refuse();  // receivers send none
      shell.core_.MessageArrived(id, {reinterpret_cast<const char*>(header.data()), header.size()},
                                 shell.clock_.Now());
    }
    void OnDisconnect(Connection&, absl::Status reason) override {
      shell.core_.Disconnected(id, View(reason.message()), shell.clock_.Now());
    }
    KvSenderShell& shell;
    const ConnectionId id;
    std::unique_ptr<Connection> connection;
  };

  void Post(Command command) {
    BATON_CHECK(mailbox_.Push(std::move(command))) << "kv-send does not keep up";
  }

  absl::Status Begin(Transport& transport) override {
    transport_ = &transport;
    ASSIGN_OR_RETURN(
        blocks_, MakeBlockAccess(options_.memory, {.views = core_options_.max_transfers,
                                                   .view_bytes = core_options_.MessageBytes()}));
    for (const MemorySpan& span : blocks_->Memory()) {
      RETURN_IF_ERROR(transport.RegisterMemory(span));
    }
    return absl::OkStatus();
  }

  bool HandleCommands() {
    std::vector<Command> commands = mailbox_.TakeAll();
    for (Command& command : commands) {
      std::visit([this](auto& what) { Handle(what); }, command);
    }
    return !commands.empty();
  }
  void Handle(OpenCommand& open) {
    bytes_[open.spec.key] = int64_t{open.spec.ticket.num_blocks} *
                            options_.memory.layout.BlockBytes() * options_.memory.layout.num_layers;
    core_.Open(open.spec, clock_.Now());
  }
  void Handle(PushCommand& push) {
    core_.Push(push.key, push.layer, push.first_block, push.blocks, clock_.Now());
  }
  void Handle(FinishCommand& finish) { core_.Finish(finish.key, finish.tail, clock_.Now()); }
  void Handle(AbortCommand& abort) { core_.Abort(abort.key, clock_.Now()); }

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
      std::vector<SenderAction> actions = core_.TakeActions();
      if (actions.empty()) return any;
      any = true;
      for (SenderAction& action : actions) {
        std::visit([this](auto& what) { Do(what); }, action);
      }
    }
  }

  void Do(OpenConnection& open) {
    auto link = std::make_unique<Link>(*this, open.connection);
    auto connection = transport_->Connect(open.peer, link.get());
    if (!connection.ok()) {
      return core_.Disconnected(open.connection, View(connection.status().message()), clock_.Now());
    }
    link->connection = *std::move(connection);
    links_[open.connection] = std::move(link);
  }
  void Do(SendBlocks& send) {
    blocks_->Read(
        send.message.layer, send.blocks, [this, send](absl::StatusOr<BlockAccess::View> view) {
          if (view.ok()) return Send(send, *std::move(view));
          log_.Error("kv_copy_failed",
                     {{"request", send.message.ticket.key}, {"message", view.status().ToString()}});
          copies_.Failed(view.status());
          core_.SendDone(send.send, /*ok=*/false, clock_.Now());
        });
  }
  // Its connection may have gone while the blocks were copied.
  void Send(const SendBlocks& send, BlockAccess::View view) {
    metrics_.Copied(options_.memory, send.message.payload_bytes);
    const auto done = [this, id = send.send, view](absl::Status status) {
      blocks_->Release(view);
      core_.SendDone(id, status.ok(), clock_.Now());
    };
    const auto it = links_.find(send.connection);
    if (it == links_.end()) return done(absl::UnavailableError("the connection is gone"));
    BlocksMessage message = send.message;
    message.checksum = view.checksum;
    const std::string header = EncodeMessage(message);
    it->second->connection->Send(std::as_bytes(std::span(header)), view.spans, done);
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
    copies_.Settle(*blocks_);  // what was about to be sent finds no connection
    if (!node.empty()) node.mapped()->connection.reset();  // ends its sends
    core_.ConnectionDestroyed(close.connection, clock_.Now());
  }
  void Do(EmitSenderEvent& emit) {
    const RequestKey& key = emit.event.key;
    if (std::holds_alternative<SenderEvent::Delivered>(emit.event.what)) {
      metrics_.Delivered(bytes_[key]);
      log_.Debug("kv_delivered", {{"request", key}, {"bytes", bytes_[key]}});
    } else if (const auto* failed = std::get_if<SenderEvent::Failed>(&emit.event.what)) {
      metrics_.Failed(failed->failure);
      const auto level =
          failed->failure == HandoffFailure::kAborted ? LogLevel::kDebug : LogLevel::kWarning;
      log_.Write(level, "kv_send_failed",
                 {{"request", key},
                  {"reason", HandoffFailureName(failed->failure)},
                  {"peer", emit.peer_name},
                  {"message", failed->message}});
    } else {
      bytes_.erase(key);
    }
    events_(std::move(emit.event));
  }

  const KvSenderOptions options_;
  const Clock& clock_;
  Logger& log_;
  TransferMetrics metrics_;
  const std::function<void(SenderEvent)> events_;
  const HandoffCoreOptions core_options_;

  // The loop's thread only, from here on.
  Transport* transport_ = nullptr;
  const KvCopyReports copies_{options_.copies, clock_};
  std::unique_ptr<BlockAccess> blocks_;  // from Begin on; outlives the transport
  SenderCore core_;
  std::map<ConnectionId, std::unique_ptr<Link>> links_;
  std::map<RequestKey, int64_t> bytes_;  // of each open handoff

  Mailbox<Command> mailbox_;
  TransferLoop loop_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<KvSender>> KvSender::Create(
    const KvSenderOptions& options, TransportFactory& transports, const Clock& clock, Logger& log,
    MetricRegistry& metrics, std::function<void(SenderEvent)> events) {
  auto shell =
      std::make_unique<KvSenderShell>(options, transports, clock, log, metrics, std::move(events));
  RETURN_IF_ERROR(shell->Start());
  return shell;
}

}  // namespace baton
