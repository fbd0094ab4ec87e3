#include "worker/load_meter.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace baton {
namespace {

constexpr int64_t kGib = int64_t{1} << 30;
constexpr int32_t kBarWidth = 20;

double Gib(int64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(kGib); }

}  // namespace

double LoadPoint::gb_per_s() const {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  return seconds > 0 ? static_cast<double>(done_bytes) / 1e9 / seconds : 0;
}

absl::Duration LoadPoint::left() const {
  if (done_bytes <= 0 || total_bytes <= 0) return absl::InfiniteDuration();
  const int64_t missing = std::max<int64_t>(0, total_bytes - done_bytes);
  return elapsed * (static_cast<double>(missing) / static_cast<double>(done_bytes));
}

std::string LoadPoint::Numbers() const {
  if (total_bytes <= 0) return absl::StrFormat("%.3g GiB, %.3g GB/s", Gib(done_bytes), gb_per_s());
  std::string text =
      absl::StrFormat("%.3g of %.3g GiB, %.3g GB/s", Gib(done_bytes), Gib(total_bytes), gb_per_s());
  if (left() == absl::InfiniteDuration()) return text;
  absl::StrAppend(&text, ", ", absl::FormatDuration(absl::Trunc(left(), absl::Seconds(1))),
                  " left");
  return text;
}

std::string LoadPoint::Bar() const {
  const double share =
      total_bytes <= 0
          ? 0
          : std::min(1.0, static_cast<double>(done_bytes) / static_cast<double>(total_bytes));
  const auto filled = static_cast<size_t>(share * kBarWidth);
  return absl::StrCat("[", std::string(filled, '#'), std::string(kBarWidth - filled, '.'),
                      absl::StrFormat("] %3.0f %%  ", 100 * share), Numbers());
}

std::string LoadPoint::InTotal() const {
  return absl::StrFormat("%.3g GiB in %s (%.3g GB/s)", Gib(done_bytes),
                         absl::FormatDuration(absl::Trunc(elapsed, absl::Milliseconds(1))),
                         gb_per_s());
}

bool LoadMeter::Update(int64_t done_bytes, int64_t total_bytes, absl::Time now) {
  point_ = {.done_bytes = done_bytes, .total_bytes = total_bytes, .elapsed = now - begin_};
  if (now < next_line_) return false;
  next_line_ = now + kLineEvery;
  return true;
}

}  // namespace baton
