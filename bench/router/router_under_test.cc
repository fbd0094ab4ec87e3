#include "bench/router/router_under_test.h"

#include <sched.h>

#include <csignal>
#include <ctime>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/check.h"

namespace baton::bench {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(30);
constexpr absl::Duration kStopTimeout = absl::Seconds(10);

}  // namespace

bool PinTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  return sched_setaffinity(0, sizeof(set), &set) == 0;
}

Cores UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  BATON_CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
  Cores cores{-1, -1};
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(static_cast<size_t>(cpu), &set)) continue;
    if (cores.first < 0) cores.first = cpu;
    cores.last = cpu;
  }
  return cores;
}

absl::StatusOr<std::unique_ptr<RouterUnderTest>> RouterUnderTest::Start(
    const RouterUnderTestOptions& options) {
  std::vector<std::string> arguments{
      "router",
      absl::StrCat("--model=", options.model),
      "--port=0",
      "--grpc-port=0",
      "--log-level=warning",
      absl::StrCat("--workers=", absl::StrJoin(options.workers, ",")),
      absl::StrCat("--conditional-disaggregation=", options.disaggregate ? "off" : "auto")};
  arguments.insert(arguments.end(), options.extra.begin(), options.extra.end());
  std::unique_ptr<RouterUnderTest> router(new RouterUnderTest);
  ASSIGN_OR_RETURN(router->process_, ChildProcess::Start("router", arguments, options.executable));
  ASSIGN_OR_RETURN(const std::string listening, router->process_->ReadLine(kStartTimeout));
  const std::vector<std::string> words = absl::StrSplit(listening, ' ');
  if (words.size() != 3 || words[0] != "listening" ||
      !absl::SimpleAtoi(words[1], &router->http_port_)) {
    return absl::InternalError(absl::StrCat("the router reported '", listening, "'"));
  }
  ASSIGN_OR_RETURN(const std::string ready, router->process_->ReadLine(kStartTimeout));
  if (ready != "ready") return absl::InternalError(absl::StrCat("the router reported ", ready));
  return router;
}

RouterUnderTest::~RouterUnderTest() {
  if (process_ == nullptr) return;
  process_->Signal(SIGTERM);
  (void)process_->WaitForEnd(kStopTimeout);
}

absl::Duration RouterUnderTest::cpu() const {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(process_->pid(), &clock) != 0 || clock_gettime(clock, &time) != 0) {
    return absl::ZeroDuration();  // it has ended: the run's answers say so
  }
  return absl::DurationFromTimespec(time);
}

}  // namespace baton::bench
