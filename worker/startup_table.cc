#include "worker/startup_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/strings.h"

namespace baton {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

std::string Gib(double bytes) { return absl::StrFormat("%.3g GiB", bytes / kGib); }

// With a mark where a figure goes beyond what was measured.
std::string Ms(const StepModel& model, const StepShape& shape) {
  return absl::StrFormat("%.3g ms%s", model.PredictMs(shape),
                         model.Extrapolates(shape) ? " (extrapolated)" : "");
}

std::string StepTimes(const StepModel& model) {
  constexpr int32_t kPrompt = 512;
  constexpr int32_t kContext = 256;
  const auto decode = [&](int32_t rows) {
    return Ms(model, {.decode_rows = rows, .decode_context = int64_t{rows} * kContext});
  };
  return absl::StrCat("prefill ", Ms(model, StepShape::Prefill(kPrompt, 0)), " for ", kPrompt,
                      " tokens; decode ", decode(1), " for 1 row, ", decode(8), " for 8");
}

}  // namespace

StartupTable MakeStartupTable(const StartupFacts& facts) {
  const ModelInfo& model = facts.model;
  const KvLayout& layout = facts.kv_layout;
  const int64_t pool_tokens = int64_t{facts.num_blocks} * layout.block_size;
  const int64_t pool_bytes = pool_tokens * layout.BytesPerToken() * facts.kv_copies;
  const std::string copies =
      facts.kv_copies > 1 ? absl::StrCat(", ", facts.kv_copies, " copies of each head") : "";
  StartupTable table{.title = absl::StrCat(facts.worker_id, " (", View(facts.role), ")")};
  const auto row = [&](const char* name, std::string value) {
    table.rows.emplace_back(name, std::move(value));
  };
  row("model",
      absl::StrCat(model.name, " (", model.architecture, ", ",
                   absl::StrFormat("%.4g", static_cast<double>(model.num_parameters) / 1e6),
                   " M parameters)"));
  row("fingerprint", absl::StrFormat("%016x", model.fingerprint));
  row("dtype", absl::StrCat("weights ", model.weight_dtype, ", KV ",
                            std::string(KvDtypeName(layout.dtype))));
  row("weights", facts.load.done_bytes > 0 ? facts.load.InTotal()
                                           : Gib(static_cast<double>(model.weight_bytes)));
  row("context", absl::StrCat(model.max_model_len, " tokens"));
  row("KV blocks", absl::StrCat(facts.num_blocks, " of ", layout.block_size, " tokens (",
                                Gib(static_cast<double>(pool_bytes)), ", ", pool_tokens, " tokens",
                                copies, ")"));
  row("concurrency",
      absl::StrFormat(
          "%.1f whole contexts fit; %d samples in a batch",
          model.max_model_len > 0 ? static_cast<double>(pool_tokens) / model.max_model_len : 0.0,
          facts.max_batch_sequences));
  if (!facts.processes.empty()) row("processes", facts.processes);
  row("kernels", absl::StrCat(model.kernels, ", ", facts.num_threads,
                              facts.num_threads == 1 ? " thread" : " threads"));
  if (!facts.placement.empty()) row("placement", facts.placement);
  if (facts.step_model.known()) row("step times", StepTimes(facts.step_model));
  if (!facts.transport.empty()) row("KV transport", facts.transport);
  row("control port", absl::StrCat(facts.control_port));
  row("admin port", facts.admin_port == 0 ? "none" : absl::StrCat(facts.admin_port));
  return table;
}

std::string RenderStartupTable(const StartupTable& table) {
  size_t width = 0;
  for (const auto& [name, value] : table.rows) width = std::max(width, name.size());
  std::string text = absl::StrCat(table.title, "\n");
  for (const auto& [name, value] : table.rows) {
    absl::StrAppend(&text, "  ", name, std::string(width - name.size() + 2, ' '), value, "\n");
  }
  return text;
}

}  // namespace baton
