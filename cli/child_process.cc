#include "cli/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace baton {
namespace {

constexpr char kSelf[] = "/proc/self/exe";

std::vector<std::string> EnvironmentWithoutBaton() {
  std::vector<std::string> kept;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::strncmp(*variable, "BATON_", 6) != 0) kept.emplace_back(*variable);
  }
  return kept;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

int PollOne(int fd, absl::Duration timeout) {
  pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
  const int64_t ms = std::clamp<int64_t>(absl::ToInt64Milliseconds(timeout), 0, 1 << 30);
  return poll(&waiting, 1, static_cast<int>(ms));
}

// Between fork and exec: only async-signal-safe calls.
[[noreturn]] void BecomeChild(const char* executable, char* const* argv, char* const* envp,
                              pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);  // the parent died before prctl
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::signal(SIGPIPE, SIG_DFL);
  execve(executable, argv, envp);
  _exit(127);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const std::string& name, const std::vector<std::string>& arguments,
    const std::string& executable) {
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) {
    return absl::ResourceExhaustedError(absl::StrCat("pipe: ", std::strerror(errno)));
  }
  fcntl(report[1], F_SETFD, 0);  // the child keeps the writing end
  std::vector<std::string> words{"baton"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  words.insert(words.end(), {"--ready-fd", absl::StrCat(report[1])});
  std::vector<std::string> environment = EnvironmentWithoutBaton();
  const std::vector<char*> argv = Pointers(words);
  const std::vector<char*> envp = Pointers(environment);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    BecomeChild(executable.empty() ? kSelf : executable.c_str(), argv.data(), envp.data(), parent);
  }
  close(report[1]);
  if (pid < 0) {
    close(report[0]);
    return absl::ResourceExhaustedError(absl::StrCat("fork: ", std::strerror(errno)));
  }
  std::unique_ptr<ChildProcess> child(new ChildProcess);
  child->name_ = name;
  child->pid_ = pid;
  child->pid_fd_ = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  child->report_fd_ = report[0];
  return child;
}

ChildProcess::~ChildProcess() {
  if (!Ended()) {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  if (pid_fd_ >= 0) close(pid_fd_);
  if (report_fd_ >= 0) close(report_fd_);
}

absl::StatusOr<std::string> ChildProcess::ReadLine(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    if (const size_t end = buffered_.find('\n'); end != std::string::npos) {
      std::string line = buffered_.substr(0, end);
      buffered_.erase(0, end + 1);
      return line;
    }
    if (PollOne(report_fd_, deadline - absl::Now()) <= 0) {
      if (absl::Now() < deadline) continue;  // EINTR
      return absl::DeadlineExceededError(absl::StrCat(name_, " has not reported in time"));
    }
    char bytes[512];
    const ssize_t got = read(report_fd_, bytes, sizeof(bytes));
    if (got <= 0) return absl::UnavailableError(absl::StrCat(name_, " ended"));
    buffered_.append(bytes, static_cast<size_t>(got));
  }
}

void ChildProcess::Signal(int signal) {
  if (ended_) return;
  kill(pid_, signal);
  if (signal == SIGTERM) terminated_ = true;
}

bool ChildProcess::Ended() {
  if (!ended_ && waitpid(pid_, &wait_status_, WNOHANG) == pid_) ended_ = true;
  return ended_;
}

bool ChildProcess::WaitForEnd(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!Ended()) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    PollOne(pid_fd_, left);
  }
  return true;
}

std::string ChildProcess::EndDescription() const {
  if (WIFSIGNALED(wait_status_)) return absl::StrCat("signal ", WTERMSIG(wait_status_));
  return absl::StrCat("exit status ", WEXITSTATUS(wait_status_));
}

bool ChildProcess::EndedWell() const {
  if (!ended_) return false;
  if (WIFSIGNALED(wait_status_)) return terminated_ && WTERMSIG(wait_status_) == SIGTERM;
  return WEXITSTATUS(wait_status_) == 0;
}

void ReadyReporter::Report(const std::string& line) const {
  if (fd_ < 0) return;
  const std::string text = line + "\n";
  // A parent that has gone away ends us through its death signal; nothing to do about a short
  // write.
  [[maybe_unused]] const ssize_t written = write(fd_, text.data(), text.size());
}

}  // namespace baton
