#include "sim/faults/schedule.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/strings.h"
#include "sim/random.h"
#include "sim/toy_model.h"

namespace baton::sim {
namespace {

// Faults strike while requests are likely to be under way.
constexpr absl::Duration kArrivals = absl::Seconds(3);
constexpr absl::Duration kFaults = absl::Seconds(5);
constexpr absl::Duration kYoung = absl::Milliseconds(250);

constexpr std::array<std::string_view, kNumFaultKinds> kNames = {
    "crash",     "silent crash",  "pause",        "slow steps",   "clock jump",
    "partition", "session reset", "slow control", "KV partition", "KV reset",
    "KV noise",  "late writes",   "drain",        "router crash"};

std::string InMs(absl::Duration duration) {
  return absl::StrFormat("%.1f ms", absl::ToDoubleMilliseconds(duration));
}

std::vector<WorkerShape> MakeWorkers(Random& random) {
  // Now and then so few blocks that requests wait for one another, or do not fit.
  const bool tight = random.Chance(30);
  const auto shape = [&](router::Role role) {
    const int32_t blocks = tight ? random.Between(14, 30) : random.Between(60, 120);
    return WorkerShape{.role = role, .blocks = blocks, .batch_tokens = random.Between(1, 4) * 8};
  };
  std::vector<WorkerShape> workers;
  if (random.Chance(90)) {
    for (int32_t i = random.Between(1, 2); i > 0; --i)
      workers.push_back(shape(router::Role::kPrefill));
    for (int32_t i = random.Between(1, 2); i > 0; --i)
      workers.push_back(shape(router::Role::kDecode));
  }
  if (workers.empty() || random.Chance(15)) workers.push_back(shape(router::Role::kBoth));
  return workers;
}

PlannedRequest MakeRequest(Random& random, uint64_t id) {
  PlannedRequest request;
  request.id = RequestId(id);
  request.at = random.Between(absl::ZeroDuration(), kArrivals);
  GenerationSpec& spec = request.spec;
  spec.prompt_length = random.Between(1, 40);
  // Prompts of one family begin alike, so that prefix caches are used.
  Random family(static_cast<uint64_t>(random.Below(3)));
  const int32_t shared = random.Chance(50) ? random.Below(spec.prompt_length + 1) : 0;
  for (int32_t i = 0; i < spec.prompt_length; ++i) {
    Random& source = i < shared ? family : random;
    spec.tokens.push_back(static_cast<TokenId>(source.Between(1, kToyVocab - 1)));
  }
  spec.num_samples = random.Chance(15) ? random.Between(2, 3) : 1;
  spec.sampling.temperature = random.Chance(50) ? 0.0f : 1.0f;
  spec.sampling.seed = random.Next();
  spec.stopping.max_tokens = random.Between(1, 40);
  spec.stopping.ignore_eos = random.Chance(50);
  request.timeout = random.Between(absl::Seconds(2), absl::Seconds(30));
  if (random.Chance(15)) {
    request.cancel_after = random.Between(absl::ZeroDuration(), absl::Seconds(1));
  }
  if (random.Chance(10)) {
    request.stop_after = random.Between(absl::ZeroDuration(), absl::Seconds(1));
  }
  return request;
}

Fault MakeFault(Random& random, const Schedule& schedule) {
  Fault fault;
  fault.kind = static_cast<FaultKind>(random.Below(kNumFaultKinds));
  fault.at = random.Between(absl::ZeroDuration(), kFaults);
  // Most strike while some request is young.
  const PlannedRequest& victim = schedule.requests[static_cast<size_t>(
      random.Below(static_cast<int32_t>(schedule.requests.size())))];
  if (random.Chance(70)) fault.at = victim.at + random.Between(absl::ZeroDuration(), kYoung);
  fault.worker = random.Below(static_cast<int32_t>(schedule.workers.size()));
  switch (fault.kind) {
    case FaultKind::kCrash:
    case FaultKind::kSilentCrash:
    case FaultKind::kDrain:
    case FaultKind::kRouterCrash:
      fault.length = random.Between(absl::Milliseconds(5), absl::Seconds(6));
      break;
    case FaultKind::kSessionReset:
    case FaultKind::kKvReset:
      break;
    case FaultKind::kPause:
    case FaultKind::kClockJump:
    case FaultKind::kPartition:
    case FaultKind::kKvPartition:
      fault.length = random.Between(absl::Milliseconds(1), absl::Seconds(12));
      break;
    case FaultKind::kSlowControl:
      fault.length = random.Between(absl::Milliseconds(1), absl::Milliseconds(500));
      break;
    case FaultKind::kSlowSteps:
      fault.length = random.Between(absl::Milliseconds(100), absl::Seconds(8));
      fault.amount = random.Between(150, 2000);
      break;
    case FaultKind::kKvNoise:
      fault.length = random.Between(absl::Milliseconds(100), absl::Seconds(8));
      fault.amount = random.Between(2, 25);
      break;
    case FaultKind::kLateWrites:
      fault.length = random.Between(absl::Milliseconds(100), absl::Seconds(8));
      fault.amount = random.Between(2, 2000);
      break;
  }
  return fault;
}

}  // namespace

std::string Fault::ToString() const {
  std::string text = absl::StrCat(InMs(at), "  ", View(kNames[static_cast<size_t>(kind)]));
  if (kind != FaultKind::kRouterCrash) absl::StrAppend(&text, " of worker ", worker);
  if (length > absl::ZeroDuration()) absl::StrAppend(&text, ", ", InMs(length));
  if (amount > 0) absl::StrAppend(&text, ", ", amount, kind == FaultKind::kLateWrites ? "x" : " %");
  return text;
}

std::string PlannedRequest::ToString() const {
  std::string text =
      absl::StrCat(InMs(at), "  request ", id.value(), ": ", spec.prompt_length, " + ",
                   spec.stopping.max_tokens, " tokens, timeout ", InMs(timeout));
  if (spec.num_samples > 1) absl::StrAppend(&text, ", ", spec.num_samples, " samples");
  if (cancel_after.has_value()) absl::StrAppend(&text, ", leaves after ", InMs(*cancel_after));
  if (stop_after.has_value()) absl::StrAppend(&text, ", stops after ", InMs(*stop_after));
  return text;
}

std::string Schedule::ToString() const {
  std::string text;
  for (size_t i = 0; i < workers.size(); ++i) {
    absl::StrAppend(&text, "worker ", i, ": ", View(router::RoleName(workers[i].role)), ", ",
                    workers[i].blocks, " blocks, ", workers[i].batch_tokens, " tokens a step",
                    workers[i].on_device ? ", on a device\n" : "\n");
  }
  for (const PlannedRequest& request : requests) absl::StrAppend(&text, request.ToString(), "\n");
  for (const Fault& fault : faults) absl::StrAppend(&text, fault.ToString(), "\n");
  return text;
}

Schedule MakeSchedule(uint64_t seed) {
  Random random(HashCombine(seed, 1));
  Schedule schedule{.seed = seed, .workers = MakeWorkers(random), .requests = {}, .faults = {}};
  const int32_t num_requests = random.Between(1, 6);
  for (int32_t i = 1; i <= num_requests; ++i) {
    schedule.requests.push_back(MakeRequest(random, static_cast<uint64_t>(i)));
  }
  // Every fifth schedule is free of faults: what fails there is no fault's doing.
  const int32_t num_faults = random.Chance(20) ? 0 : random.Between(1, 6);
  for (int32_t i = 0; i < num_faults; ++i) {
    schedule.faults.push_back(MakeFault(random, schedule));
    // Trouble comes in company.
    if (random.Chance(30)) {
      Fault another = MakeFault(random, schedule);
      another.at = schedule.faults.back().at + random.Between(absl::ZeroDuration(), kYoung);
      schedule.faults.push_back(another);
    }
  }
  const auto earlier = [](const auto& a, const auto& b) { return a.at < b.at; };
  std::stable_sort(schedule.requests.begin(), schedule.requests.end(), earlier);
  std::stable_sort(schedule.faults.begin(), schedule.faults.end(), earlier);
  for (WorkerShape& worker : schedule.workers) worker.on_device = random.Chance(50);
  return schedule;
}

}  // namespace baton::sim
