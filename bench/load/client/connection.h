// One connection to the server: one exchange after another. Internal to bench/load/client.
//
//   state        event                        next
//   kIdle        Send                         kConnecting, or kWriting when connected
//   kConnecting  connected / failed           kWriting / closed
//   kWriting     written / failed             kReading / closed
//   kReading     answer complete, keep-alive  kIdle
//                answer complete, close       closed
//                peer gone, not HTTP          closed
//   any          Close                        closed
//
// One io thread runs everything. Each exchange ends with exactly one OnEnd, unless Close came
// first.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/load/client/read_buffer.h"
#include "bench/load/client/response_parser.h"

namespace baton::load {

enum class ExchangeEnd {
  kComplete,
  kConnectFailed,
  kBroken,  // closed or reset in the middle; before the first byte see Exchange::started
  kNotHttp,
};

// Who waits for an answer. Outlives the exchange.
class ExchangeSink {
 public:
  virtual ~ExchangeSink() = default;
  virtual void OnHead(const ResponseHead& head) = 0;
  virtual void OnBody(std::string_view bytes) = 0;
  // `detail` says what happened, for kComplete "". `started`: a byte of the answer had come.
  virtual void OnEnd(ExchangeEnd end, bool started, const std::string& detail) = 0;
};

// Kept alive by its pending operations and by its pool.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using tcp = boost::asio::ip::tcp;

  // `buffer` is shared by all connections of the thread.
  Connection(boost::asio::io_context& io, const std::vector<tcp::endpoint>& endpoints,
             ReadBuffer& buffer);

  // REQUIRES: idle or new. `request` is the whole request.
  void Send(std::string request, ExchangeSink* sink);
  // The sink hears nothing more.
  void Close();
  // After OnEnd(kComplete): can take another request.
  bool reusable() const { return reusable_; }
  bool used_before() const { return exchanges_ > 1; }

 private:
  void Connect(size_t endpoint);
  void Write();
  void WaitReadable();
  void OnReadable();
  void End(ExchangeEnd end, const std::string& detail);

  tcp::socket socket_;
  const std::vector<tcp::endpoint>& endpoints_;
  ReadBuffer& buffer_;
  std::string request_;
  std::optional<ResponseParser> parser_;
  ExchangeSink* sink_ = nullptr;
  int64_t exchanges_ = 0;
  bool reusable_ = false;
  bool closed_ = false;
};

}  // namespace baton::load
