#include "router/front/key_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

constexpr absl::Duration kLookInterval = absl::Seconds(1);
constexpr off_t kMaxFileBytes = off_t{4} << 20;

struct Refusal {
  AccessDecision::Result result;
  const char* reason;
};
constexpr Refusal kRefusals[] = {
    {AccessDecision::Result::kNoKey, "no_key"},
    {AccessDecision::Result::kWrongKey, "wrong_key"},
    {AccessDecision::Result::kNotAdmin, "not_admin"},
    {AccessDecision::Result::kOverQuota, "over_quota"},
};

}  // namespace

bool KeyFile::Version::operator==(const Version& other) const {
  return changed.tv_sec == other.changed.tv_sec && changed.tv_nsec == other.changed.tv_nsec &&
         size_bytes == other.size_bytes && inode == other.inode;
}

KeyFile::KeyFile(std::string path, const Clock& clock, Logger& log, MetricRegistry& metrics)
    : path_(std::move(path)),
      clock_(clock),
      log_(log),
      metrics_(metrics),
      keys_gauge_(metrics.AddGauge("api_keys", "API keys that are known")),
      reload_failures_(metrics.AddCounter("api_keys_reload_failures_total",
                                          "Changed key files that could not be used")) {
  for (const Refusal& refusal : kRefusals) {
    refusals_[static_cast<size_t>(refusal.result)] =
        metrics.AddCounter("auth_refusals_total", "Calls that were refused for their API key",
                           {{"reason", refusal.reason}});
  }
}

absl::StatusOr<std::unique_ptr<KeyFile>> KeyFile::Open(std::string path, const Clock& clock,
                                                       Logger& log, MetricRegistry& metrics) {
  std::unique_ptr<KeyFile> file(new KeyFile(std::move(path), clock, log, metrics));
  absl::MutexLock lock(&file->mutex_);
  RETURN_IF_ERROR(file->Load(clock.Now()));
  return file;
}

absl::StatusOr<KeyFile::Version> KeyFile::Look() const {
  struct stat found = {};
  if (stat(path_.c_str(), &found) != 0) {
    return absl::NotFoundError(absl::StrCat(path_, ": ", std::strerror(errno)));
  }
  return Version{found.st_mtim, found.st_size, found.st_ino};
}

absl::Status KeyFile::Load(absl::Time now) {
  looked_at_ = now;
  ASSIGN_OR_RETURN(const Version version, Look());
  if (version.size_bytes > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, " has ", version.size_bytes, " bytes, at most ", kMaxFileBytes));
  }
  std::ifstream file(path_, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path_, ": ", std::strerror(errno)));
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  version_ = version;  // also of a broken file: it is not complained of twice
  ASSIGN_OR_RETURN(std::vector<ApiKey> keys, ParseApiKeys(text, path_));
  keys_gauge_->Set(static_cast<double>(keys.size()));
  ring_.Replace(std::move(keys), now);
  calls_.clear();
  for (const ApiKey& key : ring_.keys()) {
    calls_[key.name] =
        metrics_.AddCounter("api_key_requests_total",
                            "Calls that were let in, by the API key's name", {{"key", key.name}});
  }
  return absl::OkStatus();
}

void KeyFile::LoadIfChanged(absl::Time now) {
  if (now - looked_at_ < kLookInterval) return;
  looked_at_ = now;
  const absl::StatusOr<Version> version = Look();
  if (version.ok() && *version == version_) return;
  if (const absl::Status loaded = Load(now); !loaded.ok()) {
    reload_failures_->Increment();
    log_.Error("API keys not reloaded, the old ones stay",
               {{"error", std::string(loaded.message())}});
    return;
  }
  log_.Info("API keys reloaded", {{"keys", ring_.keys().size()}});
}

AccessDecision KeyFile::Check(std::string_view authorization, Access needed) {
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_.Now();
  LoadIfChanged(now);
  const KeyRing::Answer answer = ring_.Check(authorization, needed, now);
  Count(answer);
  return answer.decision;
}

void KeyFile::Count(const KeyRing::Answer& answer) {
  if (answer.decision.result == AccessDecision::Result::kAllowed) {
    calls_.at(answer.key->name)->Increment();
    return;
  }
  refusals_[static_cast<size_t>(answer.decision.result)]->Increment();
}

}  // namespace baton
