// API keys from a file that may change while the router runs.
#pragma once

#include <sys/stat.h>

#include <array>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "router/front/access.h"
#include "router/front/key_ring.h"

namespace baton {

// Thread-safe. Looks at the file again when somebody calls and a second has passed: a key that was
// taken out is refused from then on. A file that cannot be read changes nothing, and is logged and
// counted.
class KeyFile final : public AccessControl {
 public:
  // INVALID_ARGUMENT or NOT_FOUND when the file cannot be used. The references must outlive it.
  static absl::StatusOr<std::unique_ptr<KeyFile>> Open(std::string path, const Clock& clock,
                                                       Logger& log, MetricRegistry& metrics);

  AccessDecision Check(std::string_view authorization, Access needed) override;

 private:
  // What tells one version of a file from the next.
  struct Version {
    timespec changed = {};
    off_t size_bytes = 0;
    ino_t inode = 0;
    bool operator==(const Version& other) const;
  };

  KeyFile(std::string path, const Clock& clock, Logger& log, MetricRegistry& metrics);
  absl::StatusOr<Version> Look() const;
  absl::Status Load(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LoadIfChanged(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Count(const KeyRing::Answer& answer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const Clock& clock_;
  Logger& log_;
  MetricRegistry& metrics_;
  Gauge* const keys_gauge_;
  Counter* const reload_failures_;
  std::array<Counter*, 5> refusals_ = {};  // by AccessDecision::Result; none for kAllowed

  absl::Mutex mutex_;
  KeyRing ring_ ABSL_GUARDED_BY(mutex_);
  Version version_ ABSL_GUARDED_BY(mutex_);
  absl::Time looked_at_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Counter*> calls_ ABSL_GUARDED_BY(mutex_);  // by the key's name
};

}  // namespace baton
