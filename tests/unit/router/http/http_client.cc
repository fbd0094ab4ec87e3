#include "tests/unit/router/http/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace baton {

HttpClient::HttpClient(uint16_t port, int receive_buffer_bytes) {
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return;
  const timeval timeout{20, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  SetSendTimeout(20000);
  if (receive_buffer_bytes > 0) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Close();
}

HttpClient::~HttpClient() { Close(); }

void HttpClient::SetSendTimeout(int milliseconds) {
  const timeval timeout{milliseconds / 1000, milliseconds % 1000 * 1000};
  setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

void HttpClient::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

bool HttpClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool HttpClient::Get(std::string_view path, std::string_view headers) {
  return Send(
      absl::StrCat("GET ", View(path), " HTTP/1.1\r\nHost: test\r\n", View(headers), "\r\n"));
}

bool HttpClient::Post(std::string_view path, std::string_view body, std::string_view headers) {
  return Send(absl::StrCat("POST ", View(path), " HTTP/1.1\r\nHost: test\r\nContent-Length: ",
                           body.size(), "\r\n", View(headers), "\r\n", View(body)));
}

bool HttpClient::Receive() {
  char buffer[64 << 10];
  const ssize_t got = recv(fd_, buffer, sizeof(buffer), 0);
  if (got <= 0) return false;
  received_.append(buffer, static_cast<size_t>(got));
  return true;
}

bool HttpClient::TakeByte() {
  char byte = 0;
  return recv(fd_, &byte, 1, 0) == 1;
}

std::string HttpClient::Take(size_t length) {
  std::string taken = received_.substr(0, length);
  received_.erase(0, length);
  return taken;
}

std::string HttpClient::ReadUntil(std::string_view end) {
  size_t from = 0;
  while (true) {
    const size_t at = received_.find(end, from);
    if (at != std::string::npos) return Take(at + end.size());
    from = received_.size() - std::min(received_.size(), end.size());
    if (!Receive()) return Take(received_.size());
  }
}

std::string HttpClient::ReadSome() {
  if (received_.empty()) Receive();
  return Take(received_.size());
}

std::string HttpClient::ReadToEnd() {
  while (Receive()) {
  }
  return Take(received_.size());
}

HttpReply HttpClient::ReadReply() {
  HttpReply reply;
  const std::string head = ReadUntil("\r\n\r\n");
  if (head.size() < 12 || head.substr(head.size() - 4) != "\r\n\r\n") return reply;
  size_t line = head.find("\r\n") + 2;
  while (line + 2 < head.size()) {
    const size_t end = head.find("\r\n", line);
    const size_t colon = head.find(": ", line);
    reply.headers[absl::AsciiStrToLower(head.substr(line, colon - line))] =
        head.substr(colon + 2, end - colon - 2);
    line = end + 2;
  }
  if (reply.headers.contains("transfer-encoding")) {
    while (true) {
      const std::string size_line = ReadUntil("\r\n");
      size_t size = 0;
      const auto parsed =
          std::from_chars(size_line.data(), size_line.data() + size_line.size(), size, 16);
      if (parsed.ec != std::errc()) return reply;  // cut short: status stays 0
      while (received_.size() < size + 2) {
        if (!Receive()) return reply;
      }
      reply.body += Take(size);
      Take(2);
      if (size == 0) break;
    }
  } else if (reply.headers.contains("content-length")) {
    const size_t size = std::stoul(reply.headers["content-length"]);
    while (received_.size() < size) {
      if (!Receive()) return reply;
    }
    reply.body = Take(size);
  }
  reply.status = std::stoi(head.substr(9, 3));
  return reply;
}

HttpReply HttpGet(uint16_t port, std::string_view path, std::string_view headers) {
  HttpClient client(port);
  client.Get(path, headers);
  return client.ReadReply();
}

HttpReply HttpPost(uint16_t port, std::string_view path, std::string_view body,
                   std::string_view headers) {
  HttpClient client(port);
  client.Post(path, body, headers);
  return client.ReadReply();
}

std::vector<std::string> SseData(std::string_view stream) {
  std::vector<std::string> events;
  while (!stream.empty()) {
    const size_t end = stream.find("\n\n");
    if (end == std::string_view::npos || stream.substr(0, 6) != "data: ") return {"malformed"};
    events.emplace_back(stream.substr(6, end - 6));
    stream.remove_prefix(end + 2);
  }
  return events;
}

}  // namespace baton
