// One client connection. Internal to router/http.
//
//   state      event                          next
//   kHead      head complete, refused         kFlush
//              head complete                  kBody
//              framing broken                 kFlush
//   kBody      body complete, small           kCall or kFlush
//              body complete, large           kPreparing
//              framing broken, too large      kFlush
//   kPreparing parsed (on the worker pool)    kCall or kFlush
//   kCall      last event                     kFlush
//   kFlush     all written, keep-alive        kHead
//              all written, close             kLinger
//   kLinger    client closed, time is up      closed
//   any        client gone, deadline, forced  closed (a running call is cancelled)
//
// One read is always outstanding, whatever the state, so that a client that leaves is noticed at
// once; bytes that arrive early (pipelining) wait in a bounded buffer.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "common/rpc/tls_stream.h"
#include "router/http/api.h"
#include "router/http/byte_budget.h"
#include "router/http/completion_call.h"
#include "router/http/request_reader.h"
#include "router/http/wake_list.h"

namespace baton {

using Strand = boost::asio::strand<boost::asio::io_context::executor_type>;
using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, Strand>;

// Series of the HTTP front.
struct HttpMetrics {
  explicit HttpMetrics(MetricRegistry& registry);
  void CountAnswer(int status);

  Counter* answers[6];  // by status / 100
  Counter* left;        // the client closed while its call ran
  Counter* slow;
  Counter* timed_out;
  Counter* bad_tls;
  Counter* over_limit;
};

// What connections share. Outlives them.
struct HttpShared {
  HttpServerOptions options;
  HttpServerParts parts;
  HttpApi api;
  HttpMetrics metrics;
  std::atomic<bool> draining{false};
  ByteBudget body_budget;
  std::unique_ptr<TlsContext> tls;  // null: plain HTTP
  // The other owners: the sinks, and the router while it owes a Flush.
  const std::shared_ptr<WakeList> wakes;
  // Parses and tokenizes large bodies, so that they do not hold up other clients' tokens.
  boost::asio::thread_pool workers{1};

  HttpShared(HttpServerOptions server_options, HttpServerParts server_parts,
             boost::asio::io_context& io);
};

// Everything but the constructor runs on the socket's strand. Kept alive by its pending operations.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Socket socket, HttpShared& shared);
  ~Connection();

  const Strand& strand() const { return strand_; }
  void Start();
  // Instead of Start: answers and closes.
  void Refuse(const ApiError& why);
  // The running call has news; nothing happens without one.
  void PollCall();
  // Closes if nothing is being answered; else the running answer is the last.
  void Drain();
  void Close();

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { kHead, kBody, kPreparing, kCall, kFlush, kLinger, kClosed };

  // connection.cc: states
  void Process();
  bool ProcessOnce();
  void OnHead();
  bool BodyFits();
  void OnRequest();
  void StartCall(ApiResult<ApiRequest> parsed);
  void SendAnswer(const HttpResponse& answer);
  void SendEvents(const std::string& events, bool last);
  void OnFlushed();
  void CutSlowReader();

  // connection_io.cc: bytes and time
  void Read();
  void OnReadable();
  void OnPeerGone();
  bool Decrypt(std::string_view wire);
  void Write(std::string_view bytes);
  void WriteWire(std::string_view bytes);
  void WriteNow(std::string_view bytes);
  size_t UnsentBytes() const;
  void EndStream();
  void StartWrite();
  void OnWritten(size_t length, bool failed);
  void SetDeadline(absl::Duration from_now);
  void SetFlushDeadline();
  void ArmTimer();
  void OnTimer();
  void OnDeadline();

  Socket socket_;
  const Strand strand_;
  HttpShared& shared_;
  State state_ = State::kHead;

  std::unique_ptr<TlsStream> tls_;  // null: plain HTTP
  bool tls_begun_ = false;
  std::string input_;  // received and decrypted, not yet parsed
  bool reading_ = false;
  bool head_begun_ = false;
  RequestReader reader_;
  ByteBudget::Share body_share_;

  // The exchange in progress.
  Framing framing_;
  Route route_ = Route::kLivez;
  std::string tenant_;
  std::string request_id_;
  bool id_from_client_ = false;
  bool stream_head_sent_ = false;
  std::unique_ptr<CompletionCall> call_;

  std::string outgoing_;  // to be written
  std::string writing_;   // in flight
  bool write_pending_ = false;

  boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, Strand> timer_;
  Clock::time_point armed_for_ = Clock::time_point::max();
  Clock::time_point deadline_ = Clock::time_point::max();        // of the state
  Clock::time_point write_deadline_ = Clock::time_point::max();  // of the write in flight
  Clock::time_point ping_at_ = Clock::time_point::max();
};

}  // namespace baton
