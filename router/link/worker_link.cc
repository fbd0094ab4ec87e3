#include "router/link/worker_link.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <utility>

#include "common/hash.h"
#include "proto/baton/v1/worker.pb.h"

namespace baton::router {
namespace {

constexpr int kMaxMessageBytes = 64 << 20;
constexpr int kLookaheadBytes = 1 << 20;

std::shared_ptr<grpc::Channel> NewChannel(const LinkOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  // Enough for a fast worker; no probing for more, which costs a ping with nearly each message.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookaheadBytes);
  // gRPC's own pauses must not be longer than ours.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.reconnect_min)));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.reconnect_min)));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.reconnect_max)));
  // Each link has a connection of its own, also where two routers share a process.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(options.address, options.credentials, arguments);
}

}  // namespace

absl::Duration ReconnectPause(const LinkOptions& options, int32_t tries, uint64_t random) {
  absl::Duration pause = options.reconnect_min;
  for (int32_t i = 0; i < tries && pause < options.reconnect_max; ++i) pause *= 2;
  pause = std::min(pause, options.reconnect_max);
  const double share = 0.5 + 0.5 * static_cast<double>(random >> 11) * 0x1.0p-53;
  return pause * share;
}

WorkerLink::WorkerLink(const LinkOptions& options, WorkerIndex worker, uint64_t seed,
                       WorkerSession::NewsFn news)
    : options_(options),
      worker_(worker),
      news_(std::move(news)),
      channel_(NewChannel(options)),
      random_(seed) {}

WorkerLink::~WorkerLink() { Close(); }

void WorkerLink::Tick(absl::Time now, const HelloFields& hello) {
  if (session_ != nullptr || now < next_try_) return;
  session_id_ = SessionId(session_id_.value() + 1);
  session_ = WorkerSession::Open(channel_, {worker_, session_id_}, hello, news_);
}

void WorkerLink::Send(std::unique_ptr<v1::RouterMessage> message) {
  if (session_ != nullptr) session_->Send(std::move(message));
}

bool WorkerLink::OnEnded(absl::Time now, SessionId session) {
  if (session_ == nullptr || session != session_id_) return false;
  session_ = nullptr;
  random_ = HashCombine(random_, static_cast<uint64_t>(tries_) + 1);
  next_try_ = now + ReconnectPause(options_, tries_, random_);
  tries_ = std::min(tries_ + 1, 30);
  return true;
}

void WorkerLink::Consumed(SessionId session, size_t events) {
  if (session_ != nullptr && session == session_id_) session_->Consumed(events);
}

void WorkerLink::Close() {
  if (session_ != nullptr) session_->Close();
}

}  // namespace baton::router
