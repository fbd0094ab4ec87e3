// A baton process started by another one (`baton up`, the router's benchmark).
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace baton {

// A running child. It dies with its parent (SIGTERM when the parent is killed), stands in a process
// group of its own so that Ctrl-C reaches the parent alone, and reports over a pipe: lines that
// ReadyReporter writes. Not thread-safe.
class ChildProcess {
 public:
  // Runs `executable` (a path; empty: this one) with `arguments` plus `--ready-fd N`. BATON_*
  // variables are not passed on: the parent has already turned them into flags.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const std::string& name, const std::vector<std::string>& arguments,
      const std::string& executable = "");
  ~ChildProcess();  // kills and reaps what still runs

  // The next line of the child's report, without its newline. DEADLINE_EXCEEDED, or UNAVAILABLE
  // when the child has closed the pipe (it ended).
  absl::StatusOr<std::string> ReadLine(absl::Duration timeout);

  void Signal(int signal);
  // Reaps without waiting. True once it has ended.
  bool Ended();
  // True when it ended within `timeout`.
  bool WaitForEnd(absl::Duration timeout);
  // "exit status 1", "signal 9"; valid once ended.
  std::string EndDescription() const;
  // With exit status 0, or by our own SIGTERM: one that has just started does not wait for it yet,
  // and has nothing to drain.
  bool EndedWell() const;

  pid_t pid() const { return pid_; }
  const std::string& name() const { return name_; }
  int report_fd() const { return report_fd_; }
  // Readable once the child has ended: for poll().
  int end_fd() const { return pid_fd_; }

 private:
  ChildProcess() = default;
  std::string name_;
  pid_t pid_ = -1;
  int pid_fd_ = -1;
  int report_fd_ = -1;
  std::string buffered_;
  bool ended_ = false;
  bool terminated_ = false;  // we sent it a SIGTERM
  int wait_status_ = 0;
};

// The child's end: writes lines to the descriptor that `--ready-fd` names. A no-op for -1.
class ReadyReporter {
 public:
  explicit ReadyReporter(int fd) : fd_(fd) {}
  void Report(const std::string& line) const;

 private:
  int fd_;
};

}  // namespace baton
