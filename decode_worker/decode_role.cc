#include "decode_worker/decode_role.h"

#include <utility>

#include "common/check.h"
#include "decode_worker/decode_core.h"
#include "kvtransfer/kv_receiver.h"

namespace baton {
namespace {

class DecodeRole final : public Role {
 public:
  DecodeRole(const RoleContext& context, std::unique_ptr<TransportFactory> transports,
             std::unique_ptr<KvReceiver> receiver)
      : transports_(std::move(transports)),
        receiver_(std::move(receiver)),
        core_({.block_size = context.engine.kv_memory().layout.block_size,
               .vocab_size = context.engine.model().vocab_size,
               .max_batch_sequences = context.options.engine.scheduler.max_batch_sequences,
               .colocated = context.options.role == WorkerRole::kBoth,
               .credits = context.options.prefill_credits},
              context.engine.scheduler(), *receiver_, context.routers) {}

  RoleCore& core() override { return core_; }

 private:
  std::unique_ptr<TransportFactory> transports_;  // outlives the receiver, which outlives the core
  std::unique_ptr<KvReceiver> receiver_;
  DecodeCore core_;
};

}  // namespace

absl::StatusOr<MadeRole> MakeDecodeRole(const RoleContext& context, KvTransport transport) {
  const WorkerEnvironment& environment = context.environment;
  const WorkerOptions& options = context.options;
  ASSIGN_OR_RETURN(
      std::unique_ptr<KvReceiver> receiver,
      KvReceiver::Create({.memory = MemoryFor(transport, context.engine.kv_memory()),
                          .model_fingerprint = context.engine.model().fingerprint,
                          .boot = context.boot,
                          .worker_name = options.id,
                          .bind_host = options.kv_host,
                          .port = options.kv_port,
                          .max_bytes_in_flight = options.kv_max_bytes_in_flight,
                          .peer_timeout = options.kv_peer_timeout,
                          .copies = &context.copies},
                         *transport.factory, environment.clock, environment.log,
                         environment.metrics, [post = context.post_handoff](ReceiverEvent event) {
                           post(HandoffEvent(std::move(event)));
                         }));
  const PeerAddress address = receiver->address();
  return MadeRole{.role = std::make_unique<DecodeRole>(context, std::move(transport.factory),
                                                       std::move(receiver)),
                  .kv_address = address,
                  .transport = transport.description,
                  .kv_direct = transport.direct,
                  .why_kv_staged = transport.why_staged};
}

}  // namespace baton
