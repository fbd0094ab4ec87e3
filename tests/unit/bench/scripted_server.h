// An HTTP server that answers each request with bytes of the test's choice, lies included.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"

namespace baton::load {

struct ScriptedReply {
  enum class Then { kKeepOpen, kClose, kHold };  // kHold: read no further request, stay open
  std::string bytes;
  Then then = Then::kKeepOpen;
};

// Thread-safe. The script is called for each request, in order of arrival, one at a time.
class ScriptedServer {
 public:
  using Script = std::function<ScriptedReply(size_t index, const std::string& request)>;

  explicit ScriptedServer(Script script);
  ~ScriptedServer();

  uint16_t port() const { return port_; }
  std::vector<std::string> requests() const;  // head and body of each

 private:
  using tcp = boost::asio::ip::tcp;

  void AcceptLoop();
  void Serve(tcp::socket& socket);

  const Script script_;
  boost::asio::io_context io_;
  tcp::acceptor acceptor_;
  const uint16_t port_;
  mutable absl::Mutex mutex_;
  std::vector<std::string> requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<tcp::socket>> sockets_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;  // of connections; touched by the accepting thread alone
  std::thread accepting_;
};

// Answers of a well-behaved server.
std::string StreamReply(const std::vector<std::string>& events);  // chunked, each as `data: …`
std::string TokenEvent(int completion_tokens);
std::string StatusReply(int status, const std::string& body);

}  // namespace baton::load
