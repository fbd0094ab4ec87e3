#include "bench/load/client/connection.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <utility>

#include "common/check.h"

namespace baton::load {

using ErrorCode = boost::system::error_code;
namespace asio = boost::asio;

Connection::Connection(asio::io_context& io, const std::vector<tcp::endpoint>& endpoints,
                       ReadBuffer& buffer)
    : socket_(io), endpoints_(endpoints), buffer_(buffer) {}

void Connection::Send(std::string request, ExchangeSink* sink) {
  BATON_CHECK(sink_ == nullptr && !closed_);
  ++exchanges_;
  reusable_ = false;
  request_ = std::move(request);
  sink_ = sink;
  parser_.emplace(ResponseParser::Handlers{.on_head =
                                               [this](const ResponseHead& head) {
                                                 if (sink_) sink_->OnHead(head);
                                               },
                                           .on_body =
                                               [this](std::string_view bytes) {
                                                 if (sink_) sink_->OnBody(bytes);
                                               }});
  if (socket_.is_open()) {
    Write();
  } else {
    Connect(0);
  }
}

void Connection::Connect(size_t endpoint) {
  socket_.async_connect(endpoints_[endpoint],
                        [self = shared_from_this(), endpoint](const ErrorCode& error) {
                          if (self->closed_) return;
                          ErrorCode ignored;
                          if (!error) {
                            self->socket_.set_option(tcp::no_delay(true), ignored);
                            self->socket_.non_blocking(true, ignored);
                            ReadBuffer::EnableTimestamps(self->socket_.native_handle());
                            return self->Write();
                          }
                          self->socket_.close(ignored);
                          if (endpoint + 1 < self->endpoints_.size())
                            return self->Connect(endpoint + 1);
                          self->End(ExchangeEnd::kConnectFailed, error.message());
                        });
}

void Connection::Write() {
  asio::async_write(socket_, asio::buffer(request_),
                    [self = shared_from_this()](const ErrorCode& error, size_t) {
                      if (self->closed_) return;
                      // A server may answer (413, 429) without reading all: look at the answer.
                      (void)error;
                      self->WaitReadable();
                    });
}

void Connection::WaitReadable() {
  // Not async_read: thousands of idle streams then need no buffer of their own.
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](const ErrorCode& error) {
    if (self->closed_) return;
    if (error) return self->End(ExchangeEnd::kBroken, error.message());
    self->OnReadable();
  });
}

void Connection::OnReadable() {
  int error = 0;
  const std::string_view bytes = buffer_.Read(socket_.native_handle(), &error);
  if (error == EAGAIN || error == EINTR) return WaitReadable();
  if (error != 0) {
    return End(ExchangeEnd::kBroken, ErrorCode(error, boost::system::system_category()).message());
  }
  if (bytes.empty()) {
    if (parser_->PushEnd()) return End(ExchangeEnd::kComplete, "");
    return End(ExchangeEnd::kBroken, "the server closed the connection");
  }
  const bool http = parser_->Push(bytes);
  if (closed_) return;  // by the sink
  if (!http) return End(ExchangeEnd::kNotHttp, parser_->error());
  if (parser_->done()) return End(ExchangeEnd::kComplete, "");
  WaitReadable();
}

void Connection::End(ExchangeEnd end, const std::string& detail) {
  ErrorCode ignored;
  const bool started = parser_->started();
  reusable_ = end == ExchangeEnd::kComplete && parser_->head().keep_alive;
  if (!reusable_) {
    closed_ = true;
    socket_.close(ignored);
  }
  ExchangeSink* sink = std::exchange(sink_, nullptr);
  if (sink != nullptr) sink->OnEnd(end, started, detail);
}

void Connection::Close() {
  closed_ = true;
  sink_ = nullptr;
  ErrorCode ignored;
  socket_.close(ignored);
}

}  // namespace baton::load
