#include "cli/rank_group.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/parallel/group_memory.h"

namespace baton {
namespace {

absl::Status SystemError(const char* what) {
  return absl::ResourceExhaustedError(absl::StrCat(what, ": ", std::strerror(errno)));
}

// A descriptor that children inherit, those that are started while this lives.
class Inherited {
 public:
  explicit Inherited(int fd) : fd_(fd) { fcntl(fd_, F_SETFD, 0); }  // -1: none
  ~Inherited() { fcntl(fd_, F_SETFD, FD_CLOEXEC); }
  Inherited(const Inherited&) = delete;
  Inherited& operator=(const Inherited&) = delete;

 private:
  const int fd_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RankGroup>> RankGroup::Start(
    const std::vector<std::vector<std::string>>& arguments, bool by_gloo) {
  std::unique_ptr<RankGroup> group(new RankGroup);
  RETURN_IF_ERROR(group->MakeMeetingPlace(by_gloo, static_cast<int32_t>(arguments.size()) + 1));
  for (size_t i = 0; i < arguments.size(); ++i) {
    RETURN_IF_ERROR(group->StartRank(i, arguments[i]));
  }
  return group;
}

absl::Status RankGroup::MakeMeetingPlace(bool by_gloo, int32_t size) {
  if (!by_gloo) {
    ASSIGN_OR_RETURN(group_fd_, GroupMemory::CreateFile(size));
    return absl::OkStatus();
  }
  std::error_code error;
  const std::filesystem::path directory = std::filesystem::temp_directory_path(error);
  std::string name = (error ? std::filesystem::path("/tmp") : directory) / "baton-ranks-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) return SystemError(name.c_str());
  rendezvous_ = name;
  return absl::OkStatus();
}

absl::Status RankGroup::StartRank(size_t index, std::vector<std::string> arguments) {
  int channel[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) != 0) {
    return SystemError("socketpair");
  }
  const int kv_fd = memfd_create("baton-kv", MFD_CLOEXEC);
  links_.push_back({.channel_fd = channel[0], .kv_fd = kv_fd});
  absl::Status status = kv_fd < 0 ? SystemError("memfd_create") : absl::OkStatus();
  if (status.ok()) {
    const Inherited channel_end(channel[1]);
    const Inherited kv_memory(kv_fd);
    const Inherited group_memory(group_fd_);
    const std::string rank = absl::StrCat("rank ", index + 1);
    const std::string meeting_place = group_fd_ >= 0 ? absl::StrCat("--group-fd=", group_fd_)
                                                     : absl::StrCat("--rendezvous=", rendezvous_);
    for (const std::string& argument :
         {absl::StrCat("--rank=", index + 1), meeting_place,
          absl::StrCat("--channel-fd=", channel[1]), absl::StrCat("--kv-fd=", kv_fd)}) {
      arguments.push_back(argument);
    }
    arguments.insert(arguments.begin(), "rank");
    auto started = ChildProcess::Start(rank, arguments);
    status = started.status();
    if (started.ok()) ranks_.push_back(*std::move(started));
  }
  close(channel[1]);
  return status;
}

RankGroup::~RankGroup() {
  Connected();
  for (const RankLink& link : links_) {
    close(link.channel_fd);
    close(link.kv_fd);
  }
}

RankEndpoint RankGroup::Endpoint(absl::Duration spin) const {
  return {.rank = 0,
          .size = static_cast<int32_t>(ranks_.size()) + 1,
          .group_fd = group_fd_,
          .rendezvous = rendezvous_,
          .spin = spin,
          .check_alive = [this] { return CheckAlive(); }};
}

void RankGroup::Connected() {
  if (group_fd_ >= 0) close(std::exchange(group_fd_, -1));
  if (rendezvous_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(rendezvous_, ignored);
  rendezvous_.clear();
}

absl::Status RankGroup::CheckAlive() const {
  for (const auto& rank : ranks_) {
    pollfd ended{.fd = rank->end_fd(), .events = POLLIN, .revents = 0};
    if (poll(&ended, 1, 0) <= 0) continue;
    return absl::UnavailableError(absl::StrCat(rank->name(), " has ended; its log says why"));
  }
  return absl::OkStatus();
}

}  // namespace baton
