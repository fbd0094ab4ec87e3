#include "bench/sweep/core/arm.h"

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton::sweep {
namespace {

Setup Split(const std::vector<int32_t>& cpus, size_t prefill) {
  Setup setup{.name = absl::StrCat(prefill, "P+", cpus.size() - prefill, "D"),
              .chunked_prefill = "auto",
              .workers = {}};
  for (size_t i = 0; i < cpus.size(); ++i) {
    setup.workers.push_back({i < prefill ? "prefill" : "decode", {cpus[i]}});
  }
  return setup;
}

// "1x2": one worker of two cores.
std::vector<Setup> Colocated(const std::vector<int32_t>& cpus, const std::string& chunked) {
  const std::string policy = chunked == "off" ? "" : absl::StrCat(" chunk ", chunked);
  Setup whole{.name = absl::StrCat("1x", cpus.size(), policy),
              .chunked_prefill = chunked,
              .workers = {{"both", cpus}}};
  Setup each{
      .name = absl::StrCat(cpus.size(), "x1", policy), .chunked_prefill = chunked, .workers = {}};
  for (const int32_t cpu : cpus) each.workers.push_back({"both", {cpu}});
  return {whole, each};
}

}  // namespace

std::vector<Arm> MakeArms(const std::vector<int32_t>& cpus,
                          const std::vector<std::string>& chunks) {
  BATON_CHECK(cpus.size() >= 2);
  Arm disaggregated{kDisaggregated, {}};
  for (size_t prefill = 1; prefill < cpus.size(); ++prefill) {
    disaggregated.setups.push_back(Split(cpus, prefill));
  }
  Arm chunked{kChunked, {}};
  for (const std::string& chunk : chunks) {
    for (Setup& setup : Colocated(cpus, chunk)) chunked.setups.push_back(std::move(setup));
  }
  return {disaggregated, {kUnchunked, Colocated(cpus, "off")}, chunked};
}

}  // namespace baton::sweep
