// A blocking HTTP client over one socket that shows every byte. For tests.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace baton {

struct HttpReply {
  int status = 0;                              // 0: the connection ended before a whole reply
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
};

class HttpClient {
 public:
  // `receive_buffer_bytes`: 0 leaves the default.
  explicit HttpClient(uint16_t port, int receive_buffer_bytes = 0);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return fd_ >= 0; }
  // Sending fails after this long without progress; 20 s unless set. Reading always has 20 s.
  void SetSendTimeout(int milliseconds);
  bool Send(std::string_view bytes);
  // Whole requests with Content-Length. `headers`: lines ended by \r\n.
  bool Get(std::string_view path, std::string_view headers = "");
  bool Post(std::string_view path, std::string_view body, std::string_view headers = "");
  HttpReply ReadReply();
  // Up to and including `end`; what was received when the stream ends or times out before.
  std::string ReadUntil(std::string_view end);
  // What comes next; empty: nothing more does.
  std::string ReadSome();
  // Everything until the server closes.
  std::string ReadToEnd();
  // One byte out of the kernel's buffer, thrown away. False: none came.
  bool TakeByte();
  void Close();

 private:
  bool Receive();
  std::string Take(size_t length);

  int fd_ = -1;
  std::string received_;  // not yet consumed
};

// One request on its own connection.
HttpReply HttpGet(uint16_t port, std::string_view path, std::string_view headers = "");
HttpReply HttpPost(uint16_t port, std::string_view path, std::string_view body,
                   std::string_view headers = "");

// The payloads of "data: …" events.
std::vector<std::string> SseData(std::string_view stream);

}  // namespace baton
