#include "router/http/wake_list.h"

#include <algorithm>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "router/http/connection.h"

namespace baton {
namespace {

namespace net = boost::asio;

// Connections of one handler: several threads share a long list.
constexpr size_t kShare = 64;

}  // namespace

void WakeList::Add(std::weak_ptr<Connection> connection) {
  absl::MutexLock lock(&mutex_);
  if (!closed_) waiting_.push_back(std::move(connection));
}

void WakeList::Flush() {
  absl::MutexLock lock(&mutex_);  // also around the posts: Close then means that io_ is not used
  for (size_t begin = 0; begin < waiting_.size(); begin += kShare) {
    const size_t end = std::min(begin + kShare, waiting_.size());
    std::vector<std::weak_ptr<Connection>> share(
        std::make_move_iterator(waiting_.begin() + static_cast<std::ptrdiff_t>(begin)),
        std::make_move_iterator(waiting_.begin() + static_cast<std::ptrdiff_t>(end)));
    net::post(io_, [share = std::move(share)] {
      for (const std::weak_ptr<Connection>& weak : share) {
        const std::shared_ptr<Connection> connection = weak.lock();
        if (connection == nullptr) continue;
        net::dispatch(connection->strand(), [connection] { connection->PollCall(); });
      }
    });
  }
  waiting_.clear();
}

void WakeList::Close() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  waiting_.clear();
}

}  // namespace baton
