#include "tests/unit/router/link/fake_worker.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "proto/baton/v1/worker.grpc.pb.h"
#include "tests/unit/router/link/fake_worker_impl.h"

namespace baton::router {

void FakeWire::Attach(uint64_t boot, FakeWorker* worker) {
  absl::MutexLock lock(&mutex_);
  workers_[boot] = worker;
}

void FakeWire::Detach(uint64_t boot) {
  absl::MutexLock lock(&mutex_);
  workers_.erase(boot);
}

bool FakeWire::Deliver(uint64_t boot, const RequestKey& key) {
  absl::MutexLock lock(&mutex_);
  const auto found = workers_.find(boot);
  if (found == workers_.end()) return false;
  found->second->impl_->OnDelivered(key, corrupt_);
  return true;
}

void FakeWire::SetCorrupt(bool corrupt) {
  absl::MutexLock lock(&mutex_);
  corrupt_ = corrupt;
}

void FakeWorker::Impl::Start() {
  grpc::ServerBuilder builder;
  int port = port_;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port), grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(this);
  static std::atomic<uint64_t> next_boot{1};
  const uint64_t boot = next_boot++;
  {
    absl::MutexLock lock(&mutex_);
    boot_ = boot;
    sequences_.clear();
    stopping_ = false;
  }
  wire_->Attach(boot, self_);  // never under mutex_: the wire calls us under its own
  server_ = builder.BuildAndStart();
  BATON_CHECK(server_ != nullptr && port > 0) << "port " << port_;
  port_ = port;
}

void FakeWorker::Impl::Kill() {
  if (server_ == nullptr) return;
  uint64_t boot = 0;
  {
    absl::MutexLock lock(&mutex_);
    boot = boot_;
  }
  wire_->Detach(boot);
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    sequences_.clear();
  }
  server_->Shutdown(absl::ToChronoTime(absl::Now()));
  server_->Wait();
  server_.reset();
}

FakeWorker::FakeWorker(const FakeWorkerOptions& options, FakeWire* wire)
    : impl_(std::make_unique<Impl>(options, wire, this)) {
  Start();
}
FakeWorker::~FakeWorker() { Kill(); }

std::string FakeWorker::address() const { return absl::StrCat("127.0.0.1:", impl_->port_); }
void FakeWorker::Kill() { impl_->Kill(); }
void FakeWorker::Start() { impl_->Start(); }

void FakeWorker::SetGate(int32_t index) {
  absl::MutexLock lock(&impl_->mutex_);
  impl_->gate_ = index;
  impl_->Pump();
}

void FakeWorker::HoldPrefill(bool hold) {
  absl::MutexLock lock(&impl_->mutex_);
  impl_->hold_prefill_ = hold;
  if (hold) return;
  for (const v1::Prefill& prefill : std::exchange(impl_->held_prefills_, {})) {
    impl_->RunPrefill(prefill);
  }
}

void FakeWorker::SetSilent(bool silent) {
  absl::MutexLock lock(&impl_->mutex_);
  impl_->silent_ = silent;
}

void FakeWorker::SetRoom(int32_t room) {
  absl::MutexLock lock(&impl_->mutex_);
  impl_->room_ = room;
}

int32_t FakeWorker::open_keys() const {
  absl::MutexLock lock(&impl_->mutex_);
  return static_cast<int32_t>(impl_->sequences_.size());
}
int32_t FakeWorker::aborts() const {
  absl::MutexLock lock(&impl_->mutex_);
  return impl_->aborts_;
}
int32_t FakeWorker::sample_aborts() const {
  absl::MutexLock lock(&impl_->mutex_);
  return impl_->sample_aborts_;
}
int32_t FakeWorker::prefills_started() const {
  absl::MutexLock lock(&impl_->mutex_);
  return impl_->prefills_;
}
uint64_t FakeWorker::boot() const {
  absl::MutexLock lock(&impl_->mutex_);
  return impl_->boot_;
}

}  // namespace baton::router
