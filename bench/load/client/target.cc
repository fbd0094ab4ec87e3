#include "bench/load/client/target.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace baton::load {
namespace {

absl::Status BadUrl(const std::string& text, std::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("base_url: \"", text, "\": ", View(why), "; expected http://HOST:PORT"));
}

bool IsToken(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) &&
        std::string_view("!#$%&'*+-.^_`|~").find(c) == std::string_view::npos) {
      return false;
    }
  }
  return true;
}

bool IsPlain(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return true;
}

void AppendHead(const Target& target, std::string_view method, std::string_view path,
                std::string* out) {
  absl::StrAppend(out, View(method), " ", View(path), " HTTP/1.1\r\nHost: ", target.url.Authority(),
                  "\r\nConnection: keep-alive\r\n");
  for (const auto& [name, value] : target.headers) {
    absl::StrAppend(out, name, ": ", value, "\r\n");
  }
}

}  // namespace

std::string ServerUrl::Authority() const {
  return host.find(':') == std::string::npos ? absl::StrCat(host, ":", port)
                                             : absl::StrCat("[", host, "]:", port);
}

std::string ServerUrl::Path(std::string_view under) const {
  return absl::StrCat(base_path, View(under));
}

absl::StatusOr<ServerUrl> ParseServerUrl(const std::string& text) {
  constexpr std::string_view kScheme = "http://";
  if (text.starts_with("https://")) return BadUrl(text, "TLS is not supported");
  if (!text.starts_with(kScheme) || !IsPlain(text) || text.find(' ') != std::string::npos) {
    return BadUrl(text, "not an http URL");
  }
  std::string rest = text.substr(kScheme.size());
  ServerUrl url;
  if (const size_t slash = rest.find('/'); slash != std::string::npos) {
    url.base_path = rest.substr(slash);
    rest.resize(slash);
  }
  while (url.base_path.ends_with('/')) url.base_path.pop_back();
  if (url.base_path.ends_with("/v1")) url.base_path.resize(url.base_path.size() - 3);
  size_t colon = rest.rfind(':');
  if (rest.starts_with('[')) {
    const size_t close = rest.find(']');
    if (close == std::string::npos) return BadUrl(text, "no ] after the address");
    url.host = rest.substr(1, close - 1);
    colon = rest.find(':', close);
  } else {
    url.host = rest.substr(0, colon);
  }
  url.port = colon == std::string::npos ? "80" : rest.substr(colon + 1);
  int port = 0;
  if (url.host.empty()) return BadUrl(text, "no host");
  if (!absl::SimpleAtoi(url.port, &port) || port < 1 || port > 65535) {
    return BadUrl(text, "the port is not in 1 to 65535");
  }
  return url;
}

absl::StatusOr<std::pair<std::string, std::string>> ParseHeader(const std::string& text) {
  const size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  if (colon == std::string::npos || !IsToken(name) || !IsPlain(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat("header: \"", text, "\" is not allowed; expected NAME:VALUE"));
  }
  return std::make_pair(name, std::string(absl::StripAsciiWhitespace(text.substr(colon + 1))));
}

std::string RenderGet(const Target& target, std::string_view path) {
  std::string out;
  AppendHead(target, "GET", target.url.Path(path), &out);
  return out + "\r\n";
}

std::string RenderPost(const Target& target, std::string_view slo_class, std::string_view body) {
  const std::string_view path =
      target.body.endpoint == Endpoint::kChat ? "/v1/chat/completions" : "/v1/completions";
  std::string out;
  out.reserve(body.size() + 512);
  AppendHead(target, "POST", target.url.Path(path), &out);
  if (!slo_class.empty()) absl::StrAppend(&out, "x-slo-class: ", View(slo_class), "\r\n");
  absl::StrAppend(&out, "Content-Type: application/json\r\nContent-Length: ", body.size(),
                  "\r\n\r\n");
  out.append(body);
  return out;
}

}  // namespace baton::load
