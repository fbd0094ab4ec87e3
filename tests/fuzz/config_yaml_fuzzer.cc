// Configuration files. Accepted values lie in their ranges, and what --print-config prints of them
// is a file that says the same.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/check.h"
#include "common/config.h"
#include "engine/tokenizer/unicode/utf8.h"
#include "tests/fuzz/pieces.h"

namespace baton {
namespace {

// One setting of each kind.
struct Settings {
  Settings() {
    schema.AddString("name", &name, "");
    schema.AddInt("http.port", &port, 1, 65535, "");
    schema.AddBool("http.tls", &tls, "");
    schema.AddDouble("http.share", &share, 0, 1, "");
    schema.AddChoice("role", &role, {"prefill", "decode", "both"}, "");
    schema.AddBytes("kv.memory", &memory, 0, int64_t{1} << 50, "");
    schema.AddDuration("kv.timeout", &timeout, absl::Milliseconds(1), absl::Hours(24), "");
    schema.AddList("workers", &workers, "");
    schema.AddIntList("cpus", &cpus, "");
  }
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;

  std::string name = "baton";
  int32_t port = 8080;
  bool tls = false;
  double share = 0.5;
  std::string role = "both";
  int64_t memory = int64_t{1} << 30;
  absl::Duration timeout = absl::Seconds(3);
  std::vector<std::string> workers;
  std::vector<int32_t> cpus;
  ConfigSchema schema;
};

void CheckRanges(const Settings& settings) {
  BATON_CHECK(settings.port >= 1 && settings.port <= 65535) << settings.port;
  BATON_CHECK(settings.share >= 0 && settings.share <= 1) << settings.share;
  BATON_CHECK(settings.role == "prefill" || settings.role == "decode" || settings.role == "both");
  BATON_CHECK(settings.memory >= 0 && settings.memory <= int64_t{1} << 50) << settings.memory;
  BATON_CHECK(settings.timeout >= absl::Milliseconds(1) && settings.timeout <= absl::Hours(24));
}

void CheckEqual(const Settings& a, const Settings& b, const std::string& printed) {
  BATON_CHECK(a.name == b.name) << printed;
  BATON_CHECK(a.port == b.port) << printed;
  BATON_CHECK(a.tls == b.tls) << printed;
  BATON_CHECK(a.share == b.share) << printed;
  BATON_CHECK(a.role == b.role) << printed;
  BATON_CHECK(a.memory == b.memory) << printed;
  BATON_CHECK(a.timeout == b.timeout) << printed;
  BATON_CHECK(a.workers == b.workers) << printed;
  BATON_CHECK(a.cpus == b.cpus) << printed;
}

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  Settings settings;
  const absl::Status status = settings.schema.ApplyYaml(std::string(TextOf(data, size)), "f.yaml");
  CheckRanges(settings);
  if (!status.ok()) {
    BATON_CHECK(status.message().substr(0, 7) == "f.yaml:") << status;
    return 0;
  }
  // What is no UTF-8 is printed with U+FFFD; some escapes of yaml-cpp's make such values.
  bool utf8 = IsValidUtf8(TextOf(data, size)) && IsValidUtf8(settings.name);
  for (const std::string& worker : settings.workers) utf8 = utf8 && IsValidUtf8(worker);
  if (!utf8) return 0;
  const std::string printed = settings.schema.Print();
  Settings again;
  const absl::Status reread = again.schema.ApplyYaml(printed, "printed.yaml");
  BATON_CHECK(reread.ok()) << reread << "\n" << printed;
  CheckEqual(settings, again, printed);
  return 0;
}
