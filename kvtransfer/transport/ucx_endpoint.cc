#include "kvtransfer/transport/ucx_endpoint.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

constexpr unsigned kMessageId = 1;
constexpr unsigned kGreetingId = 2;
// Payloads up to this size ride with their header; UCX sends both as one fragment, in order.
constexpr size_t kEagerBytes = 2048;
// Each header goes behind its message's sequence number: order is checked, not assumed.
constexpr size_t kSequenceBytes = sizeof(uint64_t);
constexpr int kMaxProgressRounds = 64;
// Staging buffers: their usual size, which is that of the longest message, and how many are kept.
constexpr size_t kStagingBytes = size_t{1} << 20;
constexpr size_t kMaxFreeStaging = 32;
// Coming to rest before a worker is destroyed: so many rounds with nothing to do, and a bound on
// the rounds in all, which is far above what the window allows to be under way.
constexpr int kQuietRounds = 32;
constexpr int64_t kMaxDrainRounds = 10'000'000;

// Whether UCX is to notice the end of the peer. Shared memory cannot, and over TCP it would cost a
// third of the speed (docs/benchmarks.md): there the side channel notices, and destroying the
// worker ends what is open.
bool HandlesPeerErrors(TransportChoice kind) { return kind == TransportChoice::kRdma; }

size_t TotalBytes(std::span<const MemorySpan> pieces) {
  size_t total = 0;
  for (const MemorySpan& piece : pieces) total += piece.length_bytes;
  return total;
}

void Gather(std::span<const MemorySpan> pieces, std::byte* to) {
  for (const MemorySpan& piece : pieces) {
    if (piece.length_bytes == 0) continue;
    std::memcpy(to, piece.data, piece.length_bytes);
    to += piece.length_bytes;
  }
}

void Scatter(const std::byte* from, std::span<const MemorySpan> pieces) {
  for (const MemorySpan& piece : pieces) {
    if (piece.length_bytes == 0) continue;
    std::memcpy(piece.data, from, piece.length_bytes);
    from += piece.length_bytes;
  }
}

}  // namespace

// A payload as the receiver sees it.
class UcxPayload final : public IncomingPayload {
 public:
  UcxPayload(std::shared_ptr<UcxEndpoint::Handle> handle, UcxEndpoint::Arrival arrival)
      : handle_(std::move(handle)), arrival_(std::move(arrival)) {}
  ~UcxPayload() override {
    if (!answered_) Refuse();
  }
  size_t length_bytes() const override { return arrival_.length_bytes; }

  void Accept(std::span<const MemorySpan> pieces, UcxEndpoint::DoneFn done) override {
    answered_ = true;
    BATON_CHECK(TotalBytes(pieces) == arrival_.length_bytes) << arrival_.length_bytes;
    if (arrival_.rendezvous == nullptr) {
      // Only from a sender whose memory is the host's, and of so few bytes as hardly any model has.
      if (pieces[0].kind != MemoryKind::kHost) {
        return done(absl::UnimplementedError(absl::StrCat(
            "a payload of ", arrival_.length_bytes, " bytes for a device's memory came eagerly")));
      }
      Scatter(reinterpret_cast<const std::byte*>(arrival_.eager.data()), pieces);
      return done(absl::OkStatus());
    }
    if (handle_->endpoint == nullptr) return done(absl::CancelledError("connection destroyed"));
    handle_->endpoint->Receive(arrival_.rendezvous, pieces, std::move(done));
  }
  void Refuse() override {
    answered_ = true;
    if (arrival_.rendezvous != nullptr && handle_->endpoint != nullptr) {
      handle_->endpoint->Refuse(arrival_.rendezvous);
    }
  }

 private:
  const std::shared_ptr<UcxEndpoint::Handle> handle_;  // shared with the endpoint
  UcxEndpoint::Arrival arrival_;
  bool answered_ = false;
};

absl::StatusOr<std::unique_ptr<UcxEndpoint>> UcxEndpoint::Create(const UcxContext& context) {
  std::unique_ptr<UcxEndpoint> self(new UcxEndpoint);
  self->context_ = &context;
  self->kind_ = context.kind();
  self->handle_->endpoint = self.get();
  ucp_worker_params_t params = {};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  if (const auto status = ucp_worker_create(context.get(), &params, &self->worker_);
      status != UCS_OK) {
    return UcxError("UCX worker", status);
  }
  RETURN_IF_ERROR(self->SetHandler(kMessageId, &UcxEndpoint::OnActiveMessage));
  RETURN_IF_ERROR(self->SetHandler(kGreetingId, &UcxEndpoint::OnGreeting));
  if (const auto status = ucp_worker_get_efd(self->worker_, &self->event_fd_); status != UCS_OK) {
    return UcxError("UCX event descriptor", status);
  }
  return self;
}

absl::Status UcxEndpoint::SetHandler(unsigned message_id, ucp_am_recv_callback_t callback) {
  ucp_am_handler_param_t handler = {};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                       UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = message_id;
  handler.flags = UCP_AM_FLAG_WHOLE_MSG;
  handler.cb = callback;
  handler.arg = this;
  const ucs_status_t status = ucp_worker_set_am_recv_handler(worker_, &handler);
  if (status != UCS_OK) return UcxError("UCX active message handler", status);
  return absl::OkStatus();
}

UcxEndpoint::~UcxEndpoint() {
  handle_->endpoint = nullptr;
  if (endpoint_ != nullptr && HandlesPeerErrors(kind_)) {
    ucp_request_param_t param = {};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = UCP_EP_CLOSE_FLAG_FORCE;
    const ucs_status_ptr_t close = ucp_ep_close_nbx(endpoint_, &param);
    Drain();
    if (UCS_PTR_IS_PTR(close)) ucp_request_free(close);
  } else if (endpoint_ != nullptr) {
    Drain();
  }
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  // What UCX has not ended is ended by the worker's destruction; what ended meanwhile is not worth
  // a distinction.
  for (const auto& operation : std::exchange(operations_, {})) {
    if (operation->done) operation->done(absl::CancelledError("the connection was destroyed"));
  }
}

// UCX 1.13 aborts the process when a worker is destroyed with copies under way over CMA
// (`arbiter.c: ucs_arbiter_group_is_empty`), so what can move by itself must come to rest first. It
// does so without the peer: the copies are system calls of ours, which end with an error if it is
// dead.
void UcxEndpoint::Drain() {
  int quiet_rounds = 0;
  for (int64_t round = 0; round < kMaxDrainRounds && quiet_rounds < kQuietRounds; ++round) {
    quiet_rounds = ucp_worker_progress(worker_) == 0 ? quiet_rounds + 1 : 0;
  }
}

absl::StatusOr<std::string> UcxEndpoint::Address() const {
  ucp_address_t* address = nullptr;
  size_t length_bytes = 0;
  if (const auto status = ucp_worker_get_address(worker_, &address, &length_bytes);
      status != UCS_OK) {
    return UcxError("UCX address", status);
  }
  std::string bytes(reinterpret_cast<const char*>(address), length_bytes);
  ucp_worker_release_address(worker_, address);
  return bytes;
}

absl::Status UcxEndpoint::Connect(const std::string& peer_address) {
  ucp_ep_params_t params = {};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(peer_address.data());
  params.err_mode =
      HandlesPeerErrors(kind_) ? UCP_ERR_HANDLING_MODE_PEER : UCP_ERR_HANDLING_MODE_NONE;
  params.err_handler.cb = &UcxEndpoint::OnError;
  params.err_handler.arg = this;
  if (const auto status = ucp_ep_create(worker_, &params, &endpoint_); status != UCS_OK) {
    endpoint_ = nullptr;
    return UcxError("UCX endpoint", status);
  }
  return absl::OkStatus();
}

void UcxEndpoint::Meet() {
  meeting_due_ = true;
  TryMeet();
}

// Over TCP a message that has to wait makes UCX send a request of its handshake ahead of it, and
// the answer may find the peer's half of the connection unmade. So it is sent only when it need not
// wait.
bool UcxEndpoint::TryMeet() {
  ucp_request_param_t param = {};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_AM_SEND_FLAG_EAGER;
  if (kind_ == TransportChoice::kTcp) param.op_attr_mask |= UCP_OP_ATTR_FLAG_FORCE_IMM_CMPL;
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(endpoint_, kGreetingId, nullptr, 0, nullptr, 0, &param);
  if (UCS_PTR_STATUS(request) == UCS_ERR_NO_RESOURCE) return false;
  meeting_due_ = false;
  if (UCS_PTR_IS_PTR(request)) ucp_request_free(request);  // it ends by itself
  if (UCS_PTR_IS_ERR(request)) failure_ = UcxError("UCX greeting", UCS_PTR_STATUS(request));
  return true;
}

// Asking for a reply endpoint makes UCX exchange endpoint ids before the message leaves.
void UcxEndpoint::Bind() {
  Operation* operation = AddOperation(nullptr);
  ucp_request_param_t param = {};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_AM_SEND_FLAG_EAGER | UCP_AM_SEND_FLAG_REPLY;
  param.cb.send = &UcxEndpoint::OnSendDone;
  param.user_data = operation;
  Started(operation, ucp_am_send_nbx(endpoint_, kGreetingId, nullptr, 0, nullptr, 0, &param));
}

// ---------------------------------------------------------------- operations

UcxEndpoint::Operation* UcxEndpoint::AddOperation(DoneFn done) {
  operations_.push_back(std::make_unique<Operation>());
  Operation* operation = operations_.back().get();
  operation->self = std::prev(operations_.end());
  operation->endpoint = this;
  operation->done = std::move(done);
  return operation;
}

void UcxEndpoint::Finished(Operation* operation, absl::Status status) {
  operation->status = std::move(status);
  operation->endpoint = nullptr;
  finished_.push_back(operation);
}

void UcxEndpoint::Started(Operation* operation, ucs_status_ptr_t request) {
  if (request == nullptr) {
    Finished(operation, absl::OkStatus());
  } else if (UCS_PTR_IS_ERR(request)) {
    Finished(operation, UcxError("UCX transfer", UCS_PTR_STATUS(request)));
  }
}

void UcxEndpoint::Send(std::span<const std::byte> header, std::span<const MemorySpan> pieces,
                       DoneFn done) {
  BATON_CHECK(header.size() <= Connection::kMaxHeaderBytes) << header.size();
  Operation* operation = AddOperation(std::move(done));
  operation->header.resize(kSequenceBytes + header.size());
  std::memcpy(operation->header.data(), &next_sent_, kSequenceBytes);
  std::memcpy(operation->header.data() + kSequenceBytes, header.data(), header.size());
  ++next_sent_;
  const size_t total = TotalBytes(pieces);
  if (pieces.size() > 1) {
    operation->staging = TakeStaging(total);
    Gather(pieces, operation->staging.data.get());
    operation->payload = {operation->staging.data.get(), total};
  } else if (total > 0) {
    operation->payload = pieces[0];
  }
  PostSend(operation);
}

UcxEndpoint::Staging UcxEndpoint::TakeStaging(size_t length_bytes) {
  for (size_t i = 0; i < free_staging_.size(); ++i) {
    if (free_staging_[i].capacity_bytes < length_bytes) continue;
    Staging staging = std::move(free_staging_[i]);
    free_staging_.erase(free_staging_.begin() + static_cast<ptrdiff_t>(i));
    return staging;
  }
  const size_t capacity_bytes = std::max(length_bytes, kStagingBytes);
  return {std::unique_ptr<std::byte[]>(new std::byte[capacity_bytes]), capacity_bytes};
}

void UcxEndpoint::GiveStaging(Staging staging) {
  if (staging.data != nullptr && free_staging_.size() < kMaxFreeStaging) {
    free_staging_.push_back(std::move(staging));
  }
}

void UcxEndpoint::PostSend(Operation* operation) {
  if (!failure_.ok()) return Finished(operation, failure_);
  const size_t total = operation->payload.length_bytes;
  ucp_request_param_t param = {};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  const bool eager = total <= kEagerBytes && operation->payload.kind == MemoryKind::kHost;
  param.flags = eager ? UCP_AM_SEND_FLAG_EAGER : UCP_AM_SEND_FLAG_RNDV;
  param.cb.send = &UcxEndpoint::OnSendDone;
  param.user_data = operation;
  context_->Describe(operation->payload, &param);
  Started(operation,
          ucp_am_send_nbx(endpoint_, kMessageId, operation->header.data(), operation->header.size(),
                          operation->payload.data, total, &param));
}

void UcxEndpoint::Receive(void* rendezvous, std::span<const MemorySpan> pieces, DoneFn done) {
  Operation* operation = AddOperation(std::move(done));
  if (!failure_.ok()) return Finished(operation, failure_);
  const size_t total = TotalBytes(pieces);
  operation->payload = pieces[0];
  if (pieces.size() > 1) {
    operation->staging = TakeStaging(total);
    operation->scatter.assign(pieces.begin(), pieces.end());
    operation->payload = {operation->staging.data.get(), total};
  }
  ucp_request_param_t param = {};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.cb.recv_am = &UcxEndpoint::OnReceiveDone;
  param.user_data = operation;
  context_->Describe(operation->payload, &param);
  Started(operation,
          ucp_am_recv_data_nbx(worker_, rendezvous, operation->payload.data, total, &param));
}

void UcxEndpoint::Refuse(void* rendezvous) { ucp_am_data_release(worker_, rendezvous); }

// ---------------------------------------------------------------- UCX callbacks

ucs_status_t UcxEndpoint::OnActiveMessage(void* self, const void* header, size_t header_bytes,
                                          void* data, size_t length_bytes,
                                          const ucp_am_recv_param_t* param) {
  auto* endpoint = static_cast<UcxEndpoint*>(self);
  Arrival arrival;
  arrival.header.assign(static_cast<const char*>(header), header_bytes);
  arrival.length_bytes = length_bytes;
  const bool rendezvous = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  if (rendezvous) {
    arrival.rendezvous = data;
  } else if (length_bytes > 0) {
    arrival.eager.assign(static_cast<const char*>(data), length_bytes);
  }
  endpoint->arrivals_.push_back(std::move(arrival));
  return rendezvous ? UCS_INPROGRESS : UCS_OK;
}

ucs_status_t UcxEndpoint::OnGreeting(void* self, const void*, size_t, void*, size_t,
                                     const ucp_am_recv_param_t*) {
  static_cast<UcxEndpoint*>(self)->greetings_ += 1;
  return UCS_OK;
}

void UcxEndpoint::OnSendDone(void* request, ucs_status_t status, void* user_data) {
  auto* operation = static_cast<Operation*>(user_data);
  operation->endpoint->Finished(operation,
                                status == UCS_OK ? absl::OkStatus() : UcxError("UCX send", status));
  ucp_request_free(request);
}

void UcxEndpoint::OnReceiveDone(void* request, ucs_status_t status, size_t, void* user_data) {
  auto* operation = static_cast<Operation*>(user_data);
  operation->endpoint->Finished(
      operation, status == UCS_OK ? absl::OkStatus() : UcxError("UCX receive", status));
  ucp_request_free(request);
}

void UcxEndpoint::OnError(void* self, ucp_ep_h, ucs_status_t status) {
  auto* endpoint = static_cast<UcxEndpoint*>(self);
  if (endpoint->failure_.ok()) endpoint->failure_ = UcxError("UCX endpoint", status);
}

// ---------------------------------------------------------------- progress

bool UcxEndpoint::Progress(const MessageFn* deliver) {
  for (int i = 0; i < kMaxProgressRounds && ucp_worker_progress(worker_) != 0; ++i) {
  }
  bool any = meeting_due_ && failure_.ok() && TryMeet();
  for (Operation* operation : std::exchange(finished_, {})) {
    any = true;
    const std::unique_ptr<Operation> owned = std::move(*operation->self);
    operations_.erase(operation->self);
    if (owned->status.ok() && !owned->scatter.empty()) {
      Scatter(owned->staging.data.get(), owned->scatter);
    }
    GiveStaging(std::move(owned->staging));
    if (owned->done) owned->done(owned->status);
  }
  while (deliver != nullptr && !arrivals_.empty() && failure_.ok()) {
    any = true;
    Arrival arrival = std::move(arrivals_.front());
    arrivals_.pop_front();
    Deliver(arrival, *deliver);
  }
  return any;
}

void UcxEndpoint::Deliver(Arrival& arrival, const MessageFn& deliver) {
  uint64_t sequence = 0;
  const bool whole = arrival.header.size() >= kSequenceBytes;
  if (whole) std::memcpy(&sequence, arrival.header.data(), kSequenceBytes);
  if (!whole || sequence != next_expected_) {
    failure_ = absl::InternalError(
        absl::StrCat("message ", sequence, " arrived, expected ", next_expected_));
    return;
  }
  ++next_expected_;
  const std::string header = arrival.header.substr(kSequenceBytes);
  std::unique_ptr<IncomingPayload> payload;
  if (arrival.length_bytes > 0) {
    payload = std::make_unique<UcxPayload>(handle_, std::move(arrival));
  }
  deliver(std::as_bytes(std::span(header)), std::move(payload));
}

bool UcxEndpoint::Arm() {
  if (!finished_.empty() || !arrivals_.empty()) return false;
  return ucp_worker_arm(worker_) == UCS_OK;
}

}  // namespace baton
