#include "router/openai/cluster_json.h"

#include <string_view>

#include "router/openai/json_writer.h"
#include "router/openai/server_info.h"

namespace baton {
namespace {

// One JSON object, written member by member.
class ObjectWriter {
 public:
  explicit ObjectWriter(std::string& out) : out_(out) { out_ += '{'; }
  ~ObjectWriter() { out_ += '}'; }

  ObjectWriter& Text(std::string_view name, std::string_view value) {
    AppendJsonString(Member(name), value);
    return *this;
  }
  ObjectWriter& Int(std::string_view name, int64_t value) {
    AppendInt(Member(name), value);
    return *this;
  }
  ObjectWriter& Number(std::string_view name, double value) {
    AppendDouble(Member(name), value);
    return *this;
  }
  ObjectWriter& Flag(std::string_view name, bool value) {
    Member(name) += value ? "true" : "false";
    return *this;
  }
  ObjectWriter& Counts(std::string_view name, const ClusterReport::Counts& counts) {
    ObjectWriter object(Member(name));
    for (const auto& [key, count] : counts) object.Int(key, count);
    return *this;
  }
  template <typename Items, typename Write>
  ObjectWriter& List(std::string_view name, const Items& items, const Write& write) {
    std::string& out = Member(name);
    out += '[';
    bool first = true;
    for (const auto& item : items) {
      if (!first) out += ',';
      first = false;
      ObjectWriter object(out);
      write(object, item);
    }
    out += ']';
    return *this;
  }

 private:
  std::string& Member(std::string_view name) {
    if (!first_) out_ += ',';
    first_ = false;
    AppendJsonString(out_, name);
    out_ += ':';
    return out_;
  }

  std::string& out_;
  bool first_ = true;
};

void WriteWorker(ObjectWriter& out, const ClusterReport::Worker& worker) {
  out.Text("id", worker.id).Text("role", worker.role);
  out.Flag("alive", worker.alive).Flag("draining", worker.draining);
  out.Text("standing", worker.standing);
  out.Int("running", worker.running).Int("waiting", worker.waiting);
  out.Int("free_blocks", worker.free_blocks).Int("cached_blocks", worker.cached_blocks);
  out.Int("busy_blocks", worker.busy_blocks).Int("total_blocks", worker.total_blocks);
  out.Number("step_ms", worker.step_ms);
}

void WritePair(ObjectWriter& out, const ClusterReport::Pair& pair) {
  out.Text("prefill", pair.prefill).Text("decode", pair.decode);
  out.Text("transport", pair.transport);
  out.Int("handoffs", pair.handoffs).Int("bytes", pair.bytes);
  out.Number("transfer_ms", pair.transfer_ms);
}

void WriteEjectedPair(ObjectWriter& out, const ClusterReport::EjectedPair& pair) {
  out.Text("prefill", pair.prefill).Text("decode", pair.decode);
  out.Text("standing", pair.standing);
}

}  // namespace

std::string RenderClusterReport(const ClusterReport& report, const ServedModel& model,
                                const Readiness& readiness) {
  std::string text;
  {
    ObjectWriter out(text);
    out.Number("time_s", report.time_s);
    out.Text("model", model.name).Int("max_model_len", model.max_model_len);
    out.Text("phase", ReadyPhaseName(readiness.phase)).Text("detail", readiness.detail);
    out.Counts("stages", report.stages).Counts("missed", report.missed);
    out.Int("prompt_tokens", report.prompt_tokens);
    out.Int("generation_tokens", report.generation_tokens);
    out.Int("rejected", report.rejected);
    out.List("classes", report.classes, [](ObjectWriter& one, const auto& slo_class) {
      one.Text("name", slo_class.name);
      one.Number("ttft_ms", slo_class.ttft_ms).Number("tpot_ms", slo_class.tpot_ms);
      one.Counts("results", slo_class.results);
    });
    out.List("workers", report.workers, WriteWorker);
    out.List("pairs", report.pairs, WritePair);
    out.List("ejected_pairs", report.ejected_pairs, WriteEjectedPair);
  }
  return text;
}

}  // namespace baton
