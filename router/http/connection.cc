#include "router/http/connection.h"

#include <boost/asio/post.hpp>
#include <utility>

namespace baton {
namespace {

namespace net = boost::asio;

// Bodies up to this size are parsed and tokenized on the connection's strand: well under a
// millisecond.
constexpr size_t kInlineBodyBytes = 16u << 10;
// Of a body, not counted against the budget of all: who sends only small bodies is not refused
// because others send large ones.
constexpr size_t kFreeBodyBytes = 2 * kInlineBodyBytes;

}  // namespace

HttpMetrics::HttpMetrics(MetricRegistry& registry) {
  const char* const help = "HTTP answers by status class";
  for (int i = 0; i < 6; ++i) {
    // Answers below 200 are not counted, so the first two share a series.
    const std::string status = std::to_string(i < 2 ? 2 : i) + "xx";
    answers[i] = registry.AddCounter("http_responses_total", help, {{"status", status}});
  }
  const char* const cut_help = "HTTP connections that ended while they were served";
  const auto cut = [&](const char* reason) {
    return registry.AddCounter("http_disconnects_total", cut_help, {{"reason", reason}});
  };
  left = cut("client_left");
  slow = cut("slow_reader");
  timed_out = cut("timeout");
  bad_tls = cut("bad_tls");
  over_limit = cut("over_limit");
}

void HttpMetrics::CountAnswer(int status) {
  if (status >= 200 && status < 600) answers[status / 100]->Increment();
}

HttpShared::HttpShared(HttpServerOptions server_options, HttpServerParts server_parts,
                       net::io_context& io)
    : options(std::move(server_options)),
      parts(std::move(server_parts)),
      api(options, parts),
      metrics(parts.metrics),
      body_budget(options.max_waiting_body_bytes),
      wakes(std::make_shared<WakeList>(io)) {}

Connection::Connection(Socket socket, HttpShared& shared)
    : socket_(std::move(socket)),
      strand_(socket_.get_executor()),
      shared_(shared),
      reader_({shared.options.max_body_bytes, shared.options.max_header_bytes,
               shared.options.max_header_count}),
      body_share_(shared.body_budget),
      timer_(strand_) {
  if (shared.tls != nullptr) tls_ = TlsStream::Accept(*shared.tls);
}

Connection::~Connection() = default;

void Connection::Start() {
  SetDeadline(shared_.options.idle_timeout);
  Read();
}

void Connection::Refuse(const ApiError& why) {
  framing_ = {.keep_alive = false};
  SendAnswer(ErrorResponse(why));
  Read();
}

void Connection::Drain() {
  if (state_ == State::kHead && input_.empty()) {
    Close();
  } else {
    framing_.keep_alive = false;
  }
}

void Connection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  call_.reset();  // cancels
  boost::system::error_code ignored;
  timer_.cancel();
  socket_.close(ignored);
}

void Connection::Process() {
  while (ProcessOnce()) {
  }
}

// One step of the parser. False: more bytes are needed, or an answer is on its way.
bool Connection::ProcessOnce() {
  if (state_ != State::kHead && state_ != State::kBody) return false;
  switch (reader_.Feed(input_)) {
    case RequestReader::Step::kNeedMore:
      if (BodyFits()) return false;
      framing_.keep_alive = false;
      SendAnswer(ErrorResponse({.http_status = 429,
                                .message = "too many request bytes are waiting",
                                .type = "rate_limit_error",
                                .code = "overloaded",
                                .retry_after_s = 1}));
      return false;
    case RequestReader::Step::kHead:
      OnHead();
      return true;
    case RequestReader::Step::kDone:
      OnRequest();
      return false;
    case RequestReader::Step::kError: {
      const std::string id = shared_.api.ChooseRequestId("");
      framing_ = {.keep_alive = false, .extra_lines = shared_.api.ExtraLines(id)};
      SendAnswer(ErrorResponse(reader_.error()));
      return false;
    }
  }
  return false;
}

void Connection::OnHead() {
  const HttpRequest& head = reader_.head();
  request_id_ = shared_.api.ChooseRequestId(head.request_id);
  id_from_client_ = request_id_ == head.request_id;
  framing_ = {.keep_alive = head.keep_alive && !shared_.draining.load(std::memory_order_relaxed),
              .chunked = head.chunked_ok,
              .head_only = head.method == "HEAD",
              .extra_lines = shared_.api.ExtraLines(request_id_)};
  RouteDecision decision = shared_.api.Decide(head);
  if (decision.answer.has_value()) {
    // The body, if there is one, is not read: framing ends here unless the request has none.
    std::string nothing;
    if (reader_.Feed(nothing) != RequestReader::Step::kDone) framing_.keep_alive = false;
    SendAnswer(*decision.answer);
    return;
  }
  route_ = decision.route;
  tenant_ = std::move(decision.tenant);
  state_ = State::kBody;
  SetDeadline(shared_.options.body_timeout);
  if (reader_.expects_continue()) Write("HTTP/1.1 100 Continue\r\n\r\n");
}

bool Connection::BodyFits() {
  const size_t bytes = reader_.body_capacity();
  return bytes <= kFreeBodyBytes || body_share_.Resize(bytes);
}

void Connection::OnRequest() {
  HttpRequest request = reader_.Take();
  reader_.Reset();
  request.request_id = request_id_;
  request.tenant = std::move(tenant_);
  SetDeadline(absl::InfiniteDuration());
  if (!HttpApi::IsCall(route_) && request.body.size() <= kInlineBodyBytes) {
    SendAnswer(shared_.api.Answer(route_, request));
    return;
  }
  if (request.body.size() <= kInlineBodyBytes) {
    StartCall(shared_.api.ParseCall(route_, request));
    return;
  }
  state_ = State::kPreparing;
  // The share of the budget goes with the body.
  net::post(shared_.workers, [self = shared_from_this(), request = std::move(request),
                              share = std::move(body_share_)]() mutable {
    HttpApi& api = self->shared_.api;
    if (HttpApi::IsCall(self->route_)) {
      auto parsed = api.ParseCall(self->route_, request);
      share.Resize(0);
      net::post(self->strand_, [self, parsed = std::move(parsed)]() mutable {
        if (self->state_ == State::kPreparing) self->StartCall(std::move(parsed));
      });
    } else {
      auto answer = api.Answer(self->route_, request);
      share.Resize(0);
      net::post(self->strand_, [self, answer = std::move(answer)] {
        if (self->state_ == State::kPreparing) self->SendAnswer(answer);
      });
    }
  });
}

void Connection::StartCall(ApiResult<ApiRequest> parsed) {
  if (!parsed.ok()) {
    SendAnswer(ErrorResponse(parsed.error()));
    return;
  }
  state_ = State::kCall;
  stream_head_sent_ = false;
  // Without the header, the body's request_id names the exchange.
  if (!id_from_client_) framing_.extra_lines = shared_.api.ExtraLines(parsed.value().request_id);
  // A weak pointer: the last owner of a connection must not die on the router's thread.
  auto wake = [weak = weak_from_this(), &wakes = *shared_.wakes] { wakes.Add(weak); };
  call_ = std::make_unique<CompletionCall>(std::move(parsed.value()), shared_.parts.service,
                                           shared_.parts.tokenizer, std::move(wake), shared_.wakes);
  input_.shrink_to_fit();
  if (shared_.options.sse_ping_interval > absl::ZeroDuration()) {
    ping_at_ = Clock::now() + absl::ToChronoNanoseconds(shared_.options.sse_ping_interval);
    ArmTimer();
  }
  call_->Submit();
}

void Connection::PollCall() {
  if (state_ != State::kCall) return;
  const CallProgress progress = call_->Poll();
  if (progress.done) call_.reset();
  if (progress.answer.has_value()) {
    SendAnswer(*progress.answer);
  } else if (!progress.events.empty()) {
    SendEvents(progress.events, progress.done);
  }
}

void Connection::SendAnswer(const HttpResponse& answer) {
  shared_.metrics.CountAnswer(answer.status);
  state_ = State::kFlush;
  ping_at_ = Clock::time_point::max();
  reader_.Reset();  // of a body that is not wanted any more
  body_share_.Resize(0);
  Write(RenderResponse(answer, framing_));
  SetFlushDeadline();
}

void Connection::SendEvents(const std::string& events, bool last) {
  // What was sent before must have gone out, whatever this event's own size.
  if (UnsentBytes() > shared_.options.max_output_bytes) {
    CutSlowReader();
    return;
  }
  std::string bytes;
  if (!stream_head_sent_) {
    bytes = RenderStreamHead(framing_);
    // Without chunks the end of the stream is the end of the connection.
    if (!framing_.chunked) framing_.keep_alive = false;
    stream_head_sent_ = true;
    shared_.metrics.CountAnswer(200);
  }
  AppendStreamBytes(events, framing_.chunked, bytes);
  if (last) {
    AppendStreamEnd(framing_.chunked, bytes);
    state_ = State::kFlush;
    ping_at_ = Clock::time_point::max();
  }
  if (last) {
    Write(bytes);
    SetFlushDeadline();
  } else {
    WriteNow(bytes);
  }
}

void Connection::CutSlowReader() {
  shared_.metrics.slow->Increment();
  shared_.parts.logger.Warning("slow reader disconnected", {{"waiting_bytes", UnsentBytes()}});
  Close();
}

void Connection::OnFlushed() {
  // An answer that came before the TLS handshake was over has not gone out yet.
  if (state_ != State::kFlush || UnsentBytes() > 0) return;
  reader_.Reset();
  if (framing_.keep_alive && !shared_.draining.load(std::memory_order_relaxed)) {
    state_ = State::kHead;
    head_begun_ = !input_.empty();
    SetDeadline(head_begun_ ? shared_.options.head_timeout : shared_.options.idle_timeout);
    Process();
    return;
  }
  // Closing with unread bytes would reset the connection and could take the answer with it.
  state_ = State::kLinger;
  SetDeadline(shared_.options.linger_timeout);
  EndStream();
  input_.clear();
  Read();
}

}  // namespace baton
