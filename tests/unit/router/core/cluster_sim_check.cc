// The half of the simulated cluster that stands between the core and its clients: it carries out
// actions and checks the invariants.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/unit/router/core/cluster_sim.h"

namespace baton::router {

void ClusterSim::Feed(Event event) {
  CarryOut(core_.Handle(now_, std::move(event)));
  CheckCounts();
}

void ClusterSim::Tick() {
  CarryOut(core_.Tick(now_));
  CheckCounts();
}

// As the router's loop does: what an action causes comes behind what is left of the present ones.
void ClusterSim::CarryOut(std::vector<Action> actions) {
  for (Action& action : Break(std::move(actions))) due_.push_back(std::move(action));
  if (std::exchange(carrying_out_, true)) return;
  while (!due_.empty()) {
    const Action action = std::move(due_.front());
    due_.pop_front();
    CarryOutOne(action);
  }
  carrying_out_ = false;
}

void ClusterSim::CarryOutOne(const Action& action) {
  Observe(action);
  const auto post = [&](WorkerIndex index) {
    Worker& worker = workers_[static_cast<size_t>(index.value())];
    // Commands of an ended session go nowhere.
    const SessionId session = core_.cluster().worker(index).session;
    if (worker.alive && worker.session == session) worker.inbox.push_back(action);
  };
  if (const auto* reserve = std::get_if<SendReserve>(&action)) post(reserve->worker);
  if (const auto* prefill = std::get_if<SendPrefill>(&action)) post(prefill->worker);
  if (const auto* generate = std::get_if<SendGenerate>(&action)) post(generate->worker);
  if (const auto* abort = std::get_if<SendAbort>(&action)) post(abort->worker);
  if (const auto* resync = std::get_if<SendKvResync>(&action)) post(resync->worker);
  if (const auto* close = std::get_if<CloseSession>(&action)) {
    Worker& worker = workers_[static_cast<size_t>(close->worker.value())];
    if (worker.alive && worker.session == close->session) {
      Kill(worker, close->worker);
      Revive(worker, close->worker);
    }
  }
}

std::vector<Action> ClusterSim::Break(std::vector<Action> actions) {
  std::vector<Action> out;
  for (Action& action : actions) {
    const auto* failed = std::get_if<FailRequest>(&action);
    const auto* emit = std::get_if<EmitToken>(&action);
    switch (options_.defect) {
      case Defect::kNone:
        break;
      case Defect::kDoubleTerminal:
        if (failed != nullptr && failed->error.code == RequestErrorCode::kAborted) {
          out.push_back(action);
        }
        break;
      case Defect::kLostCancel:
        if (const auto* abort = std::get_if<SendAbort>(&action);
            abort != nullptr && abort->sample < 0 &&
            workers_[static_cast<size_t>(abort->worker.value())].role == Role::kDecode) {
          continue;
        }
        break;
      case Defect::kDuplicateToken:
        if (emit != nullptr && emit->token.index == 1 && core_.Find(emit->request) != nullptr &&
            core_.Find(emit->request)->lost_attempts > 0) {
          out.push_back(action);
        }
        break;
      case Defect::kSkippedToken:
        if (emit != nullptr && emit->token.index == 1) continue;
        break;
      case Defect::kTokenAfterEnd:
        if (failed != nullptr) {
          out.push_back(action);
          action = EmitToken{failed->request, {.sample = 0, .index = 0}};
        }
        break;
      case Defect::kSuccessAfterLoss:
        if (failed != nullptr && failed->error.code == RequestErrorCode::kDecodeLost) {
          action = CompleteRequest{.request = failed->request};
        }
        break;
    }
    out.push_back(std::move(action));
  }
  return out;
}

void ClusterSim::Observe(const Action& action) {
  if (const auto* generate = std::get_if<SendGenerate>(&action)) {
    const Role role = workers_[static_cast<size_t>(generate->worker.value())].role;
    if (role == Role::kPrefill) Violate("a prefill worker was asked to generate");
    if (role == Role::kDecode) ++report_.in_place;
  }
  if (std::holds_alternative<SendKvResync>(action)) ++report_.resyncs;
  if (const auto* emit = std::get_if<EmitToken>(&action)) {
    ObserveToken(*emit);
  } else if (const auto* finish = std::get_if<EmitSampleFinish>(&action)) {
    Client& client = clients_.at(finish->request);
    const auto sample = static_cast<size_t>(finish->finish.sample);
    if (client.terminal) Violate("a sample ended after its request");
    if (client.ended[sample]) return;  // by a stop string, in the same batch
    if (client.shown[sample] != client.length[sample]) {
      Violate(absl::StrCat("request ", finish->request.value(), " sample ", sample, " ended with ",
                           client.shown[sample], " of ", client.length[sample], " tokens"));
    }
    client.ended[sample] = true;
  } else if (const auto* done = std::get_if<CompleteRequest>(&action)) {
    ObserveEnd(done->request, true);
    if (done->summary.timings.attempts > 1) ++report_.retried;
  } else if (const auto* failed = std::get_if<FailRequest>(&action)) {
    ObserveEnd(failed->request, false);
    // Workers here abort only when asked: such an answer belongs to an attempt that is over.
    if (failed->error.message.find(": aborted") != std::string::npos) {
      Violate("the answer to an abort was charged to a later attempt");
    }
    ++report_.errors[failed->error.code];
  } else if (const auto* reserve = std::get_if<SendReserve>(&action)) {
    // A resumed prompt is the old one and tokens that the client was shown.
    const Client& client = clients_.at(reserve->key.request);
    const GenerationSpec& spec = *reserve->spec;
    const auto extra = static_cast<int32_t>(spec.tokens.size()) - spec.prompt_length;
    if (extra > 0 && (spec.num_samples != 1 || extra >= client.shown[0])) {
      Violate("a resumed prompt has tokens that were not shown");
    }
    for (int32_t i = 0; i < extra; ++i) {
      if (spec.tokens[static_cast<size_t>(spec.prompt_length + i)] !=
          TokenAt(reserve->key.request, 0, i)) {
        Violate("a resumed prompt has a wrong token");
      }
    }
    if (client.terminal) Violate("a request was dispatched after its end");
    if (workers_[static_cast<size_t>(reserve->worker.value())].refused) {
      Violate("a worker was asked again before it reported room");
    }
  } else if (const auto* generate = std::get_if<SendGenerate>(&action)) {
    if (workers_[static_cast<size_t>(generate->worker.value())].refused_prompt) {
      Violate("a worker was sent another prompt before it reported room");
    }
  }
}

void ClusterSim::ObserveToken(const EmitToken& action) {
  Client& client = clients_.at(action.request);
  const auto sample = static_cast<size_t>(action.token.sample);
  const int32_t index = action.token.index;
  if (client.terminal) Violate("a token went out after the end");
  if (client.ended[sample]) return;  // the relay drops what follows a stop string
  if (index != client.shown[sample]) {
    Violate(absl::StrCat("request ", action.request.value(), " sample ", sample, " got index ",
                         index, " instead of ", client.shown[sample]));
    return;
  }
  if (action.token.token != TokenAt(action.request, action.token.sample, index)) {
    Violate("a wrong token went out");
  }
  ++client.shown[sample];
  if (index != client.stop_at[sample]) return;
  client.ended[sample] = true;
  CarryOut(core_.Handle(now_, SampleStoppedEvent{action.request, action.token.sample}));
}

void ClusterSim::ObserveEnd(RequestId request, bool complete) {
  Client& client = clients_.at(request);
  if (client.terminal) Violate(absl::StrCat("request ", request.value(), " ended twice"));
  client.terminal = true;
  CheckAborted(request);
  ++(complete ? report_.completed : report_.failed);
  if (complete &&
      std::find(client.ended.begin(), client.ended.end(), false) != client.ended.end()) {
    Violate(absl::StrCat("request ", request.value(), " is complete but a sample is not"));
  }
}

// H8: whoever still works on an ended request has been told to stop.
void ClusterSim::CheckAborted(RequestId request) {
  for (size_t i = 0; i < workers_.size(); ++i) {
    const Worker& worker = workers_[i];
    const WorkerState& known = core_.cluster().workers()[i];
    if (!worker.alive || !known.alive || known.session != worker.session) continue;
    for (const auto& [key, held] : worker.keys) {
      if (key.request != request) continue;
      const bool told =
          std::any_of(worker.inbox.begin(), worker.inbox.end(), [&key = key](const Action& action) {
            const auto* abort = std::get_if<SendAbort>(&action);
            return abort != nullptr && abort->key == key && abort->sample < 0;
          });
      if (!told) Violate(absl::StrCat("worker ", i, " was not told that the request has ended"));
    }
  }
}

// What the cluster view counts is what open requests hold.
void ClusterSim::CheckCounts() {
  std::vector<int32_t> prefills(workers_.size()), decodes(workers_.size());
  for (const auto& [id, client] : clients_) {
    const RequestState* request = core_.Find(id);
    if (request == nullptr) continue;
    if (client.terminal) Violate("the core kept a request that has ended");
    if (request->holds_credit) ++prefills[static_cast<size_t>(request->prefill.value())];
    if (request->decode != kNoWorker) ++decodes[static_cast<size_t>(request->decode.value())];
    if ((request->phase == Phase::kQueued) != (request->decode == kNoWorker)) {
      Violate("a request has a worker while it is queued, or none while it is not");
    }
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    const WorkerState& state = core_.cluster().workers()[i];
    if (state.placed_prefills != prefills[i] || state.placed_decodes != decodes[i]) {
      Violate(absl::StrCat("worker ", i, " counts ", state.placed_prefills, " prefills and ",
                           state.placed_decodes, " decodes, requests hold ", prefills[i], " and ",
                           decodes[i]));
    }
  }
}

}  // namespace baton::router
