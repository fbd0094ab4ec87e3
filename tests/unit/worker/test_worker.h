// Workers inside the test's process, with a toy engine (or a given one) and KV over a loopback hub.
#pragma once

#include <memory>
#include <string>

#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "decode_worker/decode_role.h"
#include "kvtransfer/transport/loopback_transport.h"
#include "prefill_worker/prefill_role.h"
#include "tests/unit/worker/session_client.h"
#include "tests/unit/worker/toy_engine.h"
#include "worker/worker_shell.h"

namespace baton {

// Makes the transport of one worker.
using MakeTransportFn = std::function<std::unique_ptr<TransportFactory>()>;

class TestWorker {
 public:
  TestWorker(WorkerRole role, const MakeTransportFn& transport, ToyEngineOptions toy = {})
      : TestWorker(OptionsOf(role), transport, [toy](const EngineOptions&, const LoadProgressFn&) {
          return absl::StatusOr<std::unique_ptr<Engine>>(MakeToyEngine(toy));
        }) {}

  TestWorker(WorkerOptions options, const MakeTransportFn& transport,
             decltype(WorkerParts::load_engine) load_engine)
      : log_(options.id, LogLevel::kError, LogFormat::kText) {
    WorkerParts parts{.load_engine = std::move(load_engine),
                      .make_role = [transport, role = options.role](const RoleContext& context) {
                        return role == WorkerRole::kPrefill
                                   ? MakePrefillRole(context, KvTransport{transport(), "test"})
                                   : MakeDecodeRole(context, KvTransport{transport(), "test"});
                      }};
    auto started = StartWorker(options, std::move(parts), {clock_, log_, metrics_});
    BATON_CHECK(started.ok()) << started.status().ToString();
    process_ = *std::move(started);
  }

  static WorkerOptions OptionsOf(WorkerRole role) {
    WorkerOptions options;
    options.id = std::string(WorkerRoleName(role));
    options.role = role;
    options.version = "test";
    options.heartbeat = absl::Milliseconds(50);
    options.status_min_interval = absl::Milliseconds(2);
    options.kv_peer_timeout = absl::Milliseconds(500);
    return options;
  }

  WorkerProcess& process() { return *process_; }
  int32_t port() const { return process_->control_port(); }
  std::string Metrics() const { return metrics_.Render(); }
  void Kill() { process_.reset(); }

 private:
  const MonotonicClock clock_;
  Logger log_;
  MetricRegistry metrics_;
  std::unique_ptr<WorkerProcess> process_;
};

// ---- messages of a router, attempt 1

inline v1::RouterMessage GenerateMessage(uint64_t request, const GenerationSpec& spec) {
  v1::RouterMessage message;
  KeyToProto(request, 1, message.mutable_generate()->mutable_key());
  SpecToProto(spec, message.mutable_generate()->mutable_spec());
  return message;
}
inline v1::RouterMessage ReserveMessage(uint64_t request, const GenerationSpec& spec) {
  v1::RouterMessage message;
  KeyToProto(request, 1, message.mutable_reserve()->mutable_key());
  SpecToProto(spec, message.mutable_reserve()->mutable_spec());
  message.mutable_reserve()->set_lease_ms(5000);
  return message;
}
inline v1::RouterMessage PrefillMessage(uint64_t request, const GenerationSpec& spec,
                                        const v1::Reserved& reserved, const v1::KvAddress& to) {
  v1::RouterMessage message;
  v1::Prefill* prefill = message.mutable_prefill();
  KeyToProto(request, 1, prefill->mutable_key());
  SpecToProto(spec, prefill->mutable_spec());
  prefill->set_lease_ms(5000);
  prefill->set_ticket(reserved.ticket());
  prefill->set_first_missing_token(reserved.first_missing_token());
  *prefill->mutable_destination() = to;
  return message;
}
inline v1::RouterMessage AbortMessage(uint64_t request) {
  v1::RouterMessage message;
  KeyToProto(request, 1, message.mutable_abort()->mutable_key());
  return message;
}

// No request is held and every block is free or cached.
inline bool HoldsNothing(const SessionClient& client, int32_t total_blocks) {
  const v1::WorkerStatus status = client.LastStatus();
  return status.running() == 0 && status.waiting() == 0 &&
         status.blocks().free() + status.blocks().cached() == total_blocks;
}

}  // namespace baton
