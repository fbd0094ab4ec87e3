#include "prefill_worker/prefill_role.h"

#include <utility>

#include "common/check.h"
#include "kvtransfer/kv_sender.h"
#include "prefill_worker/prefill_core.h"

namespace baton {
namespace {

class PrefillRole final : public Role {
 public:
  PrefillRole(const RoleContext& context, std::unique_ptr<TransportFactory> transports,
              std::unique_ptr<KvSender> sender)
      : transports_(std::move(transports)),
        sender_(std::move(sender)),
        core_({.num_layers = context.engine.kv_memory().layout.num_layers,
               .block_size = context.engine.kv_memory().layout.block_size,
               .credits = context.options.prefill_credits},
              context.engine.scheduler(), *sender_, context.routers) {}

  RoleCore& core() override { return core_; }

 private:
  std::unique_ptr<TransportFactory> transports_;  // outlives the sender, which outlives the core
  std::unique_ptr<KvSender> sender_;
  PrefillCore core_;
};

}  // namespace

absl::StatusOr<MadeRole> MakePrefillRole(const RoleContext& context, KvTransport transport) {
  const WorkerEnvironment& environment = context.environment;
  ASSIGN_OR_RETURN(
      std::unique_ptr<KvSender> sender,
      KvSender::Create({.memory = MemoryFor(transport, context.engine.kv_memory()),
                        .model_fingerprint = context.engine.model().fingerprint,
                        .boot = context.boot,
                        .worker_name = context.options.id,
                        .max_bytes_in_flight = context.options.kv_max_bytes_in_flight,
                        .peer_timeout = context.options.kv_peer_timeout,
                        .copies = &context.copies},
                       *transport.factory, environment.clock, environment.log, environment.metrics,
                       [post = context.post_handoff](SenderEvent event) {
                         post(HandoffEvent(std::move(event)));
                       }));
  return MadeRole{.role = std::make_unique<PrefillRole>(context, std::move(transport.factory),
                                                        std::move(sender)),
                  .transport = transport.description,
                  .kv_direct = transport.direct,
                  .why_kv_staged = transport.why_staged};
}

}  // namespace baton
