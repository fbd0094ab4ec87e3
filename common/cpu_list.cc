#include "common/cpu_list.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/strings.h"

namespace baton {

static_assert(kMaxCpu == CPU_SETSIZE - 1);

absl::StatusOr<std::vector<int32_t>> ParseCpuList(std::string_view text, int32_t max) {
  const auto wrong = [&](const std::string& why) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", View(text), "\" ", why, "; expected numbers and ranges up to ", max, ", as 0-3,8"));
  };
  std::vector<int32_t> numbers;
  const absl::string_view list = absl::StripAsciiWhitespace(View(text));
  if (list.empty()) return numbers;
  for (const absl::string_view part : absl::StrSplit(list, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    const bool range = part.find('-') != absl::string_view::npos;
    int32_t first = 0;
    int32_t last = 0;
    if (!absl::SimpleAtoi(ends.first, &first) ||
        !absl::SimpleAtoi(range ? ends.second : ends.first, &last)) {
      return wrong("is not a list");
    }
    if (first < 0 || last > max) return wrong("has a number out of range");
    if (first > last) return wrong("has a range that runs down");
    for (int32_t number = first; number <= last; ++number) {
      if (std::ranges::find(numbers, number) != numbers.end()) {
        return wrong(absl::StrCat("names ", number, " twice"));
      }
      numbers.push_back(number);
    }
  }
  return numbers;
}

std::string FormatCpuList(std::span<const int32_t> cpus) {
  std::string text;
  for (size_t begin = 0; begin < cpus.size();) {
    size_t end = begin + 1;
    while (end < cpus.size() && cpus[end] == cpus[end - 1] + 1) ++end;
    absl::StrAppend(&text, text.empty() ? "" : ",", cpus[begin]);
    if (end - begin > 1) absl::StrAppend(&text, "-", cpus[end - 1]);
    begin = end;
  }
  return text;
}

absl::StatusOr<std::vector<int32_t>> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) {
    return absl::InternalError(
        absl::StrCat("cannot read which CPUs this process may run on: ", std::strerror(errno)));
  }
  std::vector<int32_t> cpus;
  for (int32_t cpu = 0; cpu <= kMaxCpu; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

absl::Status AllowOnlyCpus(std::span<const int32_t> cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int32_t cpu : cpus) CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof(set), &set) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("cannot stay on CPUs ", FormatCpuList(cpus), ": ", std::strerror(errno)));
}

}  // namespace baton
