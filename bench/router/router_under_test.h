// The real `baton router` in a process of its own on a core of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/child_process.h"

namespace baton::bench {

// Restricts the calling thread, and what it starts from now on, to one core. False: not possible.
bool PinTo(int cpu);
// The first and the last core that this process may use; equal when it has only one.
struct Cores {
  int first = 0;
  int last = 0;
};
Cores UsableCores();

struct RouterUnderTestOptions {
  std::string executable;            // of baton
  std::string model;                 // directory
  std::vector<std::string> workers;  // addresses
  std::vector<std::string> extra;    // further flags
  bool disaggregate = true;          // also short prompts
};

class RouterUnderTest {
 public:
  // Returns once it serves. It runs where the calling thread may run.
  static absl::StatusOr<std::unique_ptr<RouterUnderTest>> Start(
      const RouterUnderTestOptions& options);
  ~RouterUnderTest();

  int http_port() const { return http_port_; }
  int pid() const { return process_->pid(); }
  // Processor time of all its threads so far.
  absl::Duration cpu() const;

 private:
  RouterUnderTest() = default;
  std::unique_ptr<ChildProcess> process_;
  int http_port_ = 0;
};

}  // namespace baton::bench
