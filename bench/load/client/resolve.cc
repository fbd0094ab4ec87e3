#include "bench/load/client/resolve.h"

#include <boost/asio/io_context.hpp>

#include "absl/strings/str_cat.h"

namespace baton::load {

absl::StatusOr<std::vector<boost::asio::ip::tcp::endpoint>> Resolve(const ServerUrl& url) {
  boost::asio::io_context io;
  boost::system::error_code error;
  const auto found = boost::asio::ip::tcp::resolver(io).resolve(url.host, url.port, error);
  std::vector<boost::asio::ip::tcp::endpoint> endpoints;
  if (!error) {
    for (const auto& entry : found) endpoints.push_back(entry.endpoint());
  }
  if (endpoints.empty()) {
    return absl::UnavailableError(
        absl::StrCat("cannot resolve ", url.Authority(), ": ",
                     error ? error.message() : std::string("no address")));
  }
  return endpoints;
}

}  // namespace baton::load
