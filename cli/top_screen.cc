#include "cli/top_screen.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace baton {
namespace {

using Json = nlohmann::json;

constexpr char kBold[] = "\x1b[1m";
constexpr char kDim[] = "\x1b[2m";
constexpr char kGood[] = "\x1b[32m";
constexpr char kBad[] = "\x1b[31m";
constexpr char kPlain[] = "\x1b[0m";

int64_t Sum(const Json& counts) {
  int64_t sum = 0;
  for (const auto& [name, count] : counts.items()) sum += count.get<int64_t>();
  return sum;
}

// Over all classes: {ended, good}.
std::pair<int64_t, int64_t> Ended(const Json& report) {
  int64_t ended = 0, good = 0;
  for (const Json& slo_class : report.at("classes")) {
    ended += Sum(slo_class.at("results"));
    good += slo_class.at("results").at("good").get<int64_t>();
  }
  return {ended, good};
}

std::string Percent(int64_t part, int64_t whole) {
  if (whole <= 0) return "-";
  return absl::StrFormat("%.1f %%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

// "████····": `part` of `whole`, `width` columns.
std::string Bar(double part, double whole, int width) {
  const double share = whole > 0 ? std::clamp(part / whole, 0.0, 1.0) : 0.0;
  const auto filled = std::lround(share * width);
  std::string bar;
  for (int i = 0; i < width; ++i) bar += i < filled ? "█" : "·";
  return bar;
}

class Screen {
 public:
  Screen(const Json& before, const Json& now, const TopScreenOptions& options)
      : before_(before), now_(now), options_(options) {
    seconds_ = now.at("time_s").get<double>() - before.at("time_s").get<double>();
  }

  std::string Draw() {
    Head();
    Stages();
    Classes();
    Workers();
    Pairs();
    return std::move(out_);
  }

 private:
  std::string Style(const char* style, const std::string& text) const {
    return options_.color ? absl::StrCat(style, text, kPlain) : text;
  }
  void Line(const std::string& text) { absl::StrAppend(&out_, text, "\n"); }
  double Rate(double from, double to) const { return seconds_ > 0 ? (to - from) / seconds_ : 0; }
  double Rate(const char* name) const {
    return Rate(before_.at(name).get<double>(), now_.at(name).get<double>());
  }

  void Head() {
    const std::string phase = now_.at("phase").get<std::string>();
    Line(absl::StrCat(
        Style(kBold, "baton"), "  ", now_.at("model").get<std::string>(), "  ",
        Style(phase == "ready" ? kGood : kBad, phase), "  ", now_.at("detail").get<std::string>(),
        Style(kDim, absl::StrFormat("  up %.0f s", now_.at("time_s").get<double>()))));
    const auto [ended, good] = Ended(now_);
    const auto [old_ended, old_good] = Ended(before_);
    Line(absl::StrFormat("goodput %s req/s   throughput %.1f req/s   attainment %s   %.0f tokens/s",
                         Style(kBold, absl::StrFormat("%.1f", Rate(old_good, good))),
                         Rate(old_ended, ended), Percent(good - old_good, ended - old_ended),
                         Rate("generation_tokens")));
  }

  void Stages() {
    std::vector<std::string> parts;
    for (const char* stage : {"queued", "reserving", "prefilling", "transferring", "decoding"}) {
      parts.push_back(absl::StrCat(stage, " ", now_.at("stages").value(stage, int64_t{0})));
    }
    std::string line;
    for (const std::string& part : parts) {
      absl::StrAppend(&line, line.empty() ? "" : " → ", part);
    }
    Line(absl::StrCat(
        line, Style(kDim, absl::StrCat("   refused ", now_.at("rejected").get<int64_t>()))));
  }

  void Classes() {
    Line("");
    Line(Style(kDim, absl::StrFormat("%-14s %9s %9s %10s  %s", "SLO class", "TTFT ms", "TPOT ms",
                                     "good", "attainment since start")));
    for (const Json& one : now_.at("classes")) {
      const int64_t good = one.at("results").at("good").get<int64_t>();
      const int64_t all = Sum(one.at("results"));
      Line(absl::StrFormat("%-14s %9.0f %9.0f %10d  %s %s", one.at("name").get<std::string>(),
                           one.at("ttft_ms").get<double>(), one.at("tpot_ms").get<double>(), good,
                           Bar(static_cast<double>(good), static_cast<double>(all), 20),
                           Percent(good, all)));
    }
    std::string missed;
    for (const auto& [stage, count] : now_.at("missed").items()) {
      if (count.get<int64_t>() > 0)
        absl::StrAppend(&missed, "  ", stage, " ", count.get<int64_t>());
    }
    if (!missed.empty()) Line(absl::StrCat("misses by stage", missed));
  }

  void Workers() {
    Line("");
    Line(Style(kDim, absl::StrFormat("%-14s %-8s %8s %8s %9s  %-20s", "worker", "role", "running",
                                     "waiting", "step ms", "KV blocks in use")));
    for (const Json& one : now_.at("workers")) {
      const bool alive = one.at("alive").get<bool>();
      std::string state = alive ? one.at("standing").get<std::string>() : "down";
      if (alive && one.at("draining").get<bool>()) state = "draining";
      if (state == "in") state.clear();
      const std::string line = absl::StrFormat(
          "%-14s %-8s %8d %8d %9.2f  %s %s", one.at("id").get<std::string>(),
          one.at("role").get<std::string>(), one.at("running").get<int64_t>(),
          one.at("waiting").get<int64_t>(), one.at("step_ms").get<double>(),
          Bar(one.at("busy_blocks").get<double>(), one.at("total_blocks").get<double>(), 20),
          state);
      Line(alive ? line : Style(kBad, line));
    }
  }

  void Pairs() {
    if (now_.at("pairs").empty()) return;
    Line("");
    Line(Style(kDim, absl::StrFormat("%-14s %-14s %-6s %10s %12s %9s", "KV from", "to", "over",
                                     "handoffs", "MB/s", "ms each")));
    for (const Json& one : now_.at("pairs")) {
      const auto same = [&](const Json& other) {
        return other.at("prefill") == one.at("prefill") && other.at("decode") == one.at("decode") &&
               other.at("transport") == one.at("transport");
      };
      const Json& old_pairs = before_.at("pairs");
      const auto old = std::find_if(old_pairs.begin(), old_pairs.end(), same);
      const double old_bytes = old == old_pairs.end() ? 0.0 : old->at("bytes").get<double>();
      const double handoffs = one.at("handoffs").get<double>();
      Line(absl::StrFormat(
          "%-14s %-14s %-6s %10.0f %12.2f %9.2f", one.at("prefill").get<std::string>(),
          one.at("decode").get<std::string>(), one.at("transport").get<std::string>(), handoffs,
          Rate(old_bytes, one.at("bytes").get<double>()) / 1e6,
          one.at("transfer_ms").get<double>() / std::max(1.0, handoffs)));
    }
  }

  const Json& before_;
  const Json& now_;
  const TopScreenOptions options_;
  double seconds_ = 0;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> DrawTopScreen(const std::string& before, const std::string& now,
                                          const TopScreenOptions& options) {
  const Json old_report = Json::parse(before, nullptr, /*allow_exceptions=*/false);
  const Json new_report = Json::parse(now, nullptr, /*allow_exceptions=*/false);
  try {
    return Screen(old_report, new_report, options).Draw();
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("the server does not answer as a Baton router does: ", error.what()));
  }
}

}  // namespace baton
