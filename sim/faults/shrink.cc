#include "sim/faults/shrink.h"

#include <algorithm>
#include <string>
#include <utility>

#include "sim/faults/fault_sim.h"

namespace baton::sim {
namespace {

std::string ViolationOf(const Schedule& schedule, const Mutations& mutations) {
  return FaultSim(schedule, mutations, /*record=*/false).Run().violation;
}

// Which invariant it is, without its particulars.
std::string KindOf(const std::string& violation) {
  return violation.substr(0, violation.find(':'));
}

int32_t NumOf(const Schedule& schedule, router::Role role) {
  return static_cast<int32_t>(
      std::count_if(schedule.workers.begin(), schedule.workers.end(),
                    [role](const WorkerShape& worker) { return worker.role == role; }));
}

class Shrinker {
 public:
  Shrinker(Schedule schedule, const Mutations& mutations)
      : schedule_(std::move(schedule)),
        mutations_(mutations),
        violation_(ViolationOf(schedule_, mutations)) {}

  Schedule Run() {
    while (RemoveSome(&Schedule::faults) || RemoveSome(&Schedule::requests) || RemoveLastWorker() ||
           MakeSimpler()) {
    }
    return std::move(schedule_);
  }

 private:
  // Keeps `candidate` if the same still breaks. Without faults other things count as broken, too:
  // it must be the very same then.
  bool Try(Schedule candidate) {
    std::string violation = ViolationOf(candidate, mutations_);
    const bool very_same = violation == violation_;
    if (candidate.faults.empty() && !schedule_.faults.empty() && !very_same) return false;
    if (KindOf(violation) != KindOf(violation_)) return false;
    violation_ = std::move(violation);
    schedule_ = std::move(candidate);
    return true;
  }

  template <typename Entry>
  bool RemoveSome(std::vector<Entry> Schedule::*list) {
    bool any = false;
    for (size_t i = (schedule_.*list).size(); i-- > 0;) {
      Schedule candidate = schedule_;
      (candidate.*list).erase((candidate.*list).begin() + static_cast<ptrdiff_t>(i));
      any = Try(std::move(candidate)) || any;
    }
    return any;
  }

  // Of the others, indexes are known to faults.
  bool RemoveLastWorker() {
    if (schedule_.workers.empty() || NumOf(schedule_, schedule_.workers.back().role) <= 1) {
      return false;
    }
    const auto last = static_cast<int32_t>(schedule_.workers.size()) - 1;
    for (const Fault& fault : schedule_.faults) {
      if (fault.worker == last) return false;
    }
    Schedule candidate = schedule_;
    candidate.workers.pop_back();
    return Try(std::move(candidate));
  }

  bool MakeSimpler() {
    bool any = false;
    for (size_t i = 0; i < schedule_.requests.size(); ++i) {
      Schedule candidate = schedule_;
      PlannedRequest& request = candidate.requests[i];
      if (request.cancel_after.has_value()) {
        request.cancel_after.reset();
        any = Try(candidate) || any;
      }
      candidate = schedule_;
      if (candidate.requests[i].spec.num_samples > 1) {
        candidate.requests[i].spec.num_samples = 1;
        any = Try(candidate) || any;
      }
      candidate = schedule_;
      int32_t& output = candidate.requests[i].spec.stopping.max_tokens;
      if (output > 2) {
        output /= 2;
        any = Try(std::move(candidate)) || any;
      }
    }
    return any;
  }

  Schedule schedule_;
  const Mutations& mutations_;
  std::string violation_;  // of schedule_
};

}  // namespace

Schedule Shrink(Schedule schedule, const Mutations& mutations) {
  return Shrinker(std::move(schedule), mutations).Run();
}

}  // namespace baton::sim
