// The bytes and the time of a connection; connection.cc holds its states.

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "router/http/connection.h"

namespace baton {
namespace {

namespace net = boost::asio;
using boost::system::error_code;

constexpr size_t kReadBytes = 16u << 10;
// What a client may send ahead while it is being answered; then its bytes stay in the kernel.
constexpr size_t kMaxAheadBytes = 64u << 10;
// A write buffer that grew beyond this is given back when it is empty.
constexpr size_t kKeptBufferBytes = 4u << 10;

}  // namespace

// Waits for bytes without holding a buffer for them: an idle stream costs no memory here.
void Connection::Read() {
  if (reading_ || state_ == State::kClosed) return;
  const bool answering = state_ != State::kHead && state_ != State::kBody;
  if (answering && input_.size() >= kMaxAheadBytes) return;
  reading_ = true;
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](error_code error) {
    self->reading_ = false;
    if (self->state_ == State::kClosed) return;
    if (error) {
      self->OnPeerGone();
    } else {
      self->OnReadable();
    }
  });
}

void Connection::OnReadable() {
  // A connection keeps no more than what it has received, however many send their heads slowly.
  std::array<char, kReadBytes> bytes;
  error_code error;
  const size_t got = socket_.read_some(net::buffer(bytes), error);
  if (error == net::error::would_block || error == net::error::interrupted) {
    Read();
    return;
  }
  if (error) {
    OnPeerGone();
    return;
  }
  if (state_ != State::kLinger) {
    if (state_ == State::kHead && !std::exchange(head_begun_, true)) {
      SetDeadline(shared_.options.head_timeout);
    }
    if (!Decrypt({bytes.data(), got})) return;
    Process();
    if (tls_ != nullptr && tls_->peer_ended()) {
      OnPeerGone();
      return;
    }
  }
  Read();
}

// Appends to `input_`. False: the connection is over, or about to be.
bool Connection::Decrypt(std::string_view wire) {
  if (tls_ == nullptr) {
    input_ += wire;
    return true;
  }
  constexpr char kHandshakeRecord = 0x16;
  if (!std::exchange(tls_begun_, true) && wire[0] != kHandshakeRecord) {
    tls_.reset();
    framing_ = {.keep_alive = false};
    SendAnswer(ErrorResponse({.http_status = 400,
                              .message = "this port speaks HTTPS",
                              .type = "invalid_request_error"}));
    Read();
    return false;
  }
  const absl::Status received = tls_->Receive(wire, input_);
  const std::string answer = tls_->TakeWire();
  if (!received.ok()) {
    shared_.metrics.bad_tls->Increment();
    error_code ignored;
    socket_.write_some(net::buffer(answer), ignored);  // why, if there is room for it
    Close();
    return false;
  }
  if (!answer.empty()) WriteWire(answer);
  return true;
}

void Connection::OnPeerGone() {
  if (state_ == State::kCall || state_ == State::kPreparing) shared_.metrics.left->Increment();
  // A client that has sent all it wants and closed its side may still read the answer.
  if (state_ == State::kFlush) {
    framing_.keep_alive = false;
    return;
  }
  Close();
}

void Connection::Write(std::string_view bytes) {
  if (tls_ == nullptr) return WriteWire(bytes);
  tls_->Send(bytes);
  // Nothing before the handshake's end; what ends it brings the rest.
  if (const std::string wire = tls_->TakeWire(); !wire.empty()) WriteWire(wire);
}

void Connection::WriteWire(std::string_view bytes) {
  outgoing_ += bytes;
  if (!write_pending_) StartWrite();
}

// A stream's events, mostly smaller than the kernel's buffer: without a turn of the event loop.
// Only inside an answer, since what follows an answer may be the next request, and so on without
// end.
void Connection::WriteNow(std::string_view bytes) {
  std::string wire;
  if (tls_ != nullptr) {
    tls_->Send(bytes);
    wire = tls_->TakeWire();
    bytes = wire;
  }
  if (!write_pending_) {
    error_code error;
    // An error stays and meets the write below.
    bytes.remove_prefix(socket_.write_some(net::buffer(bytes.data(), bytes.size()), error));
  }
  if (!bytes.empty()) WriteWire(bytes);
}

size_t Connection::UnsentBytes() const {
  return outgoing_.size() + writing_.size() + (tls_ == nullptr ? 0 : tls_->waiting_bytes());
}

// After the last answer: over TLS the peer is told that it was whole, then that nothing follows.
void Connection::EndStream() {
  if (tls_ != nullptr) {
    tls_->End();
    if (const std::string wire = tls_->TakeWire(); !wire.empty()) {
      WriteWire(wire);  // then OnWritten shuts the socket
      return;
    }
  }
  error_code ignored;
  socket_.shutdown(net::ip::tcp::socket::shutdown_send, ignored);
}

void Connection::StartWrite() {
  if (state_ == State::kClosed) return;
  write_pending_ = true;
  std::swap(writing_, outgoing_);
  write_deadline_ = Clock::now() + absl::ToChronoNanoseconds(shared_.options.write_timeout);
  ArmTimer();
  socket_.async_write_some(net::buffer(writing_),
                           [self = shared_from_this()](error_code error, size_t length) {
                             self->OnWritten(length, static_cast<bool>(error));
                           });
}

void Connection::OnWritten(size_t length, bool failed) {
  write_pending_ = false;
  write_deadline_ = Clock::time_point::max();
  if (state_ == State::kClosed) return;
  if (failed) {
    OnPeerGone();
    Close();
    return;
  }
  if (length < writing_.size()) {
    // The rest goes first; a client that takes nothing for write_timeout is cut.
    writing_.erase(0, length);
    writing_ += outgoing_;
    outgoing_.clear();
    std::swap(writing_, outgoing_);
    StartWrite();
    return;
  }
  writing_.clear();
  if (!outgoing_.empty()) {
    StartWrite();
    return;
  }
  if (writing_.capacity() > kKeptBufferBytes) writing_.shrink_to_fit();
  if (outgoing_.capacity() > kKeptBufferBytes) outgoing_.shrink_to_fit();
  if (state_ == State::kLinger) {
    error_code ignored;
    socket_.shutdown(net::ip::tcp::socket::shutdown_send, ignored);
    return;
  }
  OnFlushed();
  Read();
}

void Connection::SetDeadline(absl::Duration from_now) {
  deadline_ = from_now == absl::InfiniteDuration()
                  ? Clock::time_point::max()
                  : Clock::now() + absl::ToChronoNanoseconds(from_now);
  ArmTimer();
}

// However slowly the client reads, its answer goes in the end: what it reads little by little would
// else never meet the write timeout.
void Connection::SetFlushDeadline() {
  const auto waiting = static_cast<double>(UnsentBytes());
  SetDeadline(shared_.options.write_timeout +
              absl::Seconds(waiting / static_cast<double>(shared_.options.min_read_bytes_per_s)));
}

// Re-arms only for an earlier time: a stream that writes each token must not touch the timer queue
// each time. A timer that fires early finds the next deadline by itself.
void Connection::ArmTimer() {
  const auto next = std::min({deadline_, write_deadline_, ping_at_});
  if (next >= armed_for_ || state_ == State::kClosed) return;
  armed_for_ = next;
  timer_.expires_at(next);
  timer_.async_wait([self = shared_from_this()](error_code error) {
    if (error || self->state_ == State::kClosed) return;  // re-armed or closed
    self->armed_for_ = Clock::time_point::max();
    self->OnTimer();
  });
}

void Connection::OnTimer() {
  const auto now = Clock::now();
  if (now >= write_deadline_) {
    CutSlowReader();
    return;
  }
  if (now >= deadline_) {
    OnDeadline();
    return;
  }
  if (now >= ping_at_) {
    ping_at_ = now + absl::ToChronoNanoseconds(shared_.options.sse_ping_interval);
    if (state_ == State::kCall && stream_head_sent_) SendEvents(": ping\n\n", /*last=*/false);
  }
  ArmTimer();
}

void Connection::OnDeadline() {
  deadline_ = Clock::time_point::max();
  if (state_ == State::kFlush) {
    CutSlowReader();
    return;
  }
  const bool in_request = state_ == State::kBody || (state_ == State::kHead && !input_.empty());
  if (!in_request) {  // idle between requests, or lingering
    Close();
    return;
  }
  shared_.metrics.timed_out->Increment();
  framing_ = {.keep_alive = false,
              .extra_lines = shared_.api.ExtraLines(shared_.api.ChooseRequestId(""))};
  SendAnswer(ErrorResponse({.http_status = 408,
                            .message = "the request did not arrive in time",
                            .type = "invalid_request_error"}));
}

}  // namespace baton
