#include "cli/local_cluster.h"

#include <poll.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/check.h"

namespace baton {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(200);
constexpr absl::Duration kLongestBackoff = absl::Seconds(10);
// A worker that has lived this long starts again without delay.
constexpr absl::Duration kHealthyLife = absl::Seconds(30);
constexpr absl::Duration kReadSlice = absl::Milliseconds(100);

// "listening 9100 9101" gives {9100, 9101}.
absl::StatusOr<std::pair<int32_t, int32_t>> ParseListening(const std::string& line) {
  const std::vector<std::string> words = absl::StrSplit(line, ' ');
  int32_t first = 0;
  int32_t second = 0;
  if (words.size() != 3 || words[0] != "listening" || !absl::SimpleAtoi(words[1], &first) ||
      !absl::SimpleAtoi(words[2], &second)) {
    return absl::InternalError(absl::StrCat("unexpected report: ", line));
  }
  return std::pair{first, second};
}

}  // namespace

LocalCluster::LocalCluster(LocalClusterOptions options, Logger& log)
    : options_(std::move(options)), log_(log) {
  for (const LocalClusterOptions::Worker& worker : options_.workers) {
    workers_.push_back({.spec = worker, .backoff = kFirstBackoff});
  }
}

LocalCluster::~LocalCluster() = default;

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Start(LocalClusterOptions options,
                                                                  SignalWaiter& signals,
                                                                  Logger& log) {
  std::unique_ptr<LocalCluster> cluster(new LocalCluster(std::move(options), log));
  std::vector<WorkerSlot>& workers = cluster->workers_;
  for (WorkerSlot& slot : workers) {
    for (const size_t before : slot.spec.after) {
      RETURN_IF_ERROR(cluster->AwaitWorker(workers[before], signals));
    }
    RETURN_IF_ERROR(cluster->StartWorker(slot));
  }
  for (WorkerSlot& slot : workers) RETURN_IF_ERROR(cluster->AwaitWorker(slot, signals));
  RETURN_IF_ERROR(cluster->StartRouter(signals));
  return cluster;
}

absl::Status LocalCluster::StartWorker(WorkerSlot& slot) {
  std::vector<std::string> arguments{"worker", absl::StrCat("--id=", slot.spec.id),
                                     absl::StrCat("--control-port=", slot.control_port)};
  arguments.insert(arguments.end(), slot.spec.arguments.begin(), slot.spec.arguments.end());
  ASSIGN_OR_RETURN(slot.process, ChildProcess::Start(slot.spec.id, arguments));
  slot.started_at = absl::Now();
  slot.restart_at = absl::InfiniteFuture();
  return absl::OkStatus();
}

absl::Status LocalCluster::AwaitWorker(WorkerSlot& slot, SignalWaiter& signals) {
  if (slot.control_port != 0) {
    if (!slot.process->Ended()) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat(slot.spec.id, " ended while others started (",
                                               slot.process->EndDescription(),
                                               "); see its message above"));
  }
  const absl::Time deadline = slot.started_at + options_.start_timeout;
  ASSIGN_OR_RETURN(const std::string line, ReadLine(*slot.process, signals, deadline));
  ASSIGN_OR_RETURN(const auto ports, ParseListening(line));
  slot.control_port = ports.first;
  log_.Info("worker started", {{"worker", slot.spec.id},
                               {"pid", slot.process->pid()},
                               {"control_port", ports.first},
                               {"admin_port", ports.second}});
  return absl::OkStatus();
}

absl::Status LocalCluster::StartRouter(SignalWaiter& signals) {
  std::vector<std::string> addresses;
  for (const WorkerSlot& slot : workers_) {
    addresses.push_back(absl::StrCat("127.0.0.1:", slot.control_port));
  }
  std::vector<std::string> arguments{"router",
                                     absl::StrCat("--workers=", absl::StrJoin(addresses, ","))};
  arguments.insert(arguments.end(), options_.router_arguments.begin(),
                   options_.router_arguments.end());
  ASSIGN_OR_RETURN(router_, ChildProcess::Start("router", arguments));
  const absl::Time deadline = absl::Now() + options_.start_timeout;
  ASSIGN_OR_RETURN(const std::string line, ReadLine(*router_, signals, deadline));
  ASSIGN_OR_RETURN(const auto ports, ParseListening(line));
  http_port_ = ports.first;
  grpc_port_ = ports.second;
  ASSIGN_OR_RETURN(const std::string ready, ReadLine(*router_, signals, deadline));
  if (ready != "ready") return absl::InternalError(absl::StrCat("unexpected report: ", ready));
  log_.Info("router started",
            {{"pid", router_->pid()}, {"http_port", http_port_}, {"grpc_port", grpc_port_}});
  return absl::OkStatus();
}

absl::StatusOr<std::string> LocalCluster::ReadLine(ChildProcess& child, SignalWaiter& signals,
                                                   absl::Time deadline) {
  for (;;) {
    absl::StatusOr<std::string> line = child.ReadLine(std::min(kReadSlice, deadline - absl::Now()));
    if (line.ok()) return line;
    if (absl::IsUnavailable(line.status())) {
      child.WaitForEnd(absl::Seconds(1));
      return absl::UnavailableError(absl::StrCat(child.name(), " ended while starting (",
                                                 child.EndDescription(),
                                                 "); see its message above"));
    }
    if (absl::Now() >= deadline) return line.status();
    if (signals.Wait(absl::ZeroDuration()) != 0) {
      return absl::CancelledError("stopped while starting");
    }
  }
}

absl::Status LocalCluster::SuperviseUntilSignal(SignalWaiter& signals) {
  while (signals.Wait(absl::ZeroDuration()) == 0) {
    if (router_->Ended()) {
      return absl::UnavailableError(absl::StrCat("router ended: ", router_->EndDescription()));
    }
    absl::Time next = absl::Now() + absl::Seconds(60);
    for (WorkerSlot& slot : workers_) {
      NoticeEnd(slot);
      RestartDue(slot);
      next = std::min(next, slot.restart_at);
    }
    Sleep(signals, next);
  }
  return absl::OkStatus();
}

void LocalCluster::NoticeEnd(WorkerSlot& slot) {
  if (!slot.process || !slot.process->Ended()) return;
  if (absl::Now() - slot.started_at >= kHealthyLife) slot.backoff = kFirstBackoff;
  log_.Error("worker ended, restarting", {{"worker", slot.spec.id},
                                          {"end", slot.process->EndDescription()},
                                          {"in", absl::FormatDuration(slot.backoff)}});
  slot.process.reset();
  slot.restart_at = absl::Now() + slot.backoff;
  slot.backoff = std::min(slot.backoff * 2, kLongestBackoff);
}

void LocalCluster::RestartDue(WorkerSlot& slot) {
  if (slot.process || absl::Now() < slot.restart_at) return;
  if (const absl::Status status = StartWorker(slot); !status.ok()) {
    log_.Error("restart failed",
               {{"worker", slot.spec.id}, {"error", std::string(status.message())}});
    slot.restart_at = absl::Now() + slot.backoff;
    return;
  }
  log_.Info("worker restarted", {{"worker", slot.spec.id}, {"pid", slot.process->pid()}});
}

void LocalCluster::Sleep(SignalWaiter& signals, absl::Time until) {
  std::vector<pollfd> waiting{{.fd = signals.fd(), .events = POLLIN, .revents = 0},
                              {.fd = router_->end_fd(), .events = POLLIN, .revents = 0}};
  for (const WorkerSlot& slot : workers_) {
    if (slot.process) waiting.push_back({.fd = slot.process->end_fd(), .events = POLLIN});
  }
  const int64_t ms = std::clamp<int64_t>(absl::ToInt64Milliseconds(until - absl::Now()), 0, 60000);
  poll(waiting.data(), waiting.size(), static_cast<int>(ms));
}

absl::Status LocalCluster::WaitForEnd(ChildProcess& child, SignalWaiter& signals,
                                      absl::Time deadline) {
  while (!child.WaitForEnd(kReadSlice)) {
    if (signals.Wait(absl::ZeroDuration()) != 0) {
      return absl::AbortedError("second signal: killing what still runs");
    }
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(child.name(), " has not drained in time"));
    }
  }
  if (child.EndedWell()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(child.name(), " ended: ", child.EndDescription()));
}

absl::Status LocalCluster::Stop(SignalWaiter& signals) {
  const absl::Time deadline = absl::Now() + options_.drain_timeout;
  router_->Signal(SIGTERM);
  RETURN_IF_ERROR(WaitForEnd(*router_, signals, deadline));
  for (WorkerSlot& slot : workers_) {
    if (slot.process) slot.process->Signal(SIGTERM);
  }
  for (WorkerSlot& slot : workers_) {
    if (slot.process) RETURN_IF_ERROR(WaitForEnd(*slot.process, signals, deadline));
  }
  return absl::OkStatus();
}

}  // namespace baton
