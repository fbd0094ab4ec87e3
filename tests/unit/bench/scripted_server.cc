#include "tests/unit/bench/scripted_server.h"

#include <sys/socket.h>

#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace baton::load {

using ErrorCode = boost::system::error_code;
namespace asio = boost::asio;

ScriptedServer::ScriptedServer(Script script)
    : script_(std::move(script)),
      acceptor_(io_, {asio::ip::address_v4::loopback(), 0}),
      port_(acceptor_.local_endpoint().port()),
      accepting_([this] { AcceptLoop(); }) {}

ScriptedServer::~ScriptedServer() {
  ::shutdown(acceptor_.native_handle(), SHUT_RDWR);  // ends accept()
  accepting_.join();
  {
    const absl::MutexLock lock(&mutex_);
    for (const auto& socket : sockets_) ::shutdown(socket->native_handle(), SHUT_RDWR);
  }
  for (std::thread& thread : threads_) thread.join();
}

std::vector<std::string> ScriptedServer::requests() const {
  const absl::MutexLock lock(&mutex_);
  return requests_;
}

void ScriptedServer::AcceptLoop() {
  while (true) {
    auto socket = std::make_unique<tcp::socket>(io_);
    ErrorCode error;
    acceptor_.accept(*socket, error);
    if (error) return;
    tcp::socket& kept = *socket;
    {
      const absl::MutexLock lock(&mutex_);
      sockets_.push_back(std::move(socket));
    }
    threads_.emplace_back([this, &kept] { Serve(kept); });
  }
}

void ScriptedServer::Serve(tcp::socket& socket) {
  std::string text;
  while (true) {
    ErrorCode error;
    const size_t head = asio::read_until(socket, asio::dynamic_buffer(text), "\r\n\r\n", error);
    if (error) return;
    const size_t field = text.find("Content-Length: ");
    const size_t body = field < head ? std::stoul(text.substr(field + 16)) : 0;
    if (text.size() < head + body) {
      asio::read(socket, asio::dynamic_buffer(text),
                 asio::transfer_exactly(head + body - text.size()), error);
      if (error) return;
    }
    ScriptedReply reply;
    {
      const absl::MutexLock lock(&mutex_);
      requests_.push_back(text.substr(0, head + body));
      reply = script_(requests_.size() - 1, requests_.back());
    }
    text.erase(0, head + body);
    asio::write(socket, asio::buffer(reply.bytes), error);
    if (reply.then == ScriptedReply::Then::kHold) return;
    // Not close(): the socket's number must stay ours until the destructor has used it.
    if (reply.then == ScriptedReply::Then::kClose) {
      ::shutdown(socket.native_handle(), SHUT_RDWR);
      return;
    }
  }
}

std::string StreamReply(const std::vector<std::string>& events) {
  std::string reply =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string& event : events) {
    const std::string data = absl::StrCat("data: ", event, "\n\n");
    absl::StrAppend(&reply, absl::StrFormat("%x\r\n", data.size()), data, "\r\n");
  }
  return reply + "0\r\n\r\n";
}

std::string TokenEvent(int completion_tokens) {
  return absl::StrFormat(
      R"({"choices":[{"index":0,"text":" a"}],"usage":{"prompt_tokens":4,"completion_tokens":%d}})",
      completion_tokens);
}

std::string StatusReply(int status, const std::string& body) {
  return absl::StrFormat(
      "HTTP/1.1 %d Why\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status,
      body.size(), body);
}

}  // namespace baton::load
