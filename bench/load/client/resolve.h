// Addresses of the server. Internal to bench/load/client.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/load/client/target.h"

namespace baton::load {

absl::StatusOr<std::vector<boost::asio::ip::tcp::endpoint>> Resolve(const ServerUrl& url);

}  // namespace baton::load
