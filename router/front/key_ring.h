// API keys as a pure state machine: keys and a time go in, decisions come out.
//
// Only SHA-256 digests of keys are known. A key is 256 random bits (`baton keys new`), so its
// digest needs no salt and no slow hash. A presented key's digest is compared with every known one,
// each in constant time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/crypto.h"
#include "router/front/access.h"

namespace baton {

struct ApiKey {
  std::string name;    // in logs and metrics; not secret
  std::string tenant;  // shares, quotas of the queue and prefix cache; several keys may share one
  Sha256Digest sha256;
  int32_t requests_per_minute = 0;  // 0: no limit
  bool admin = false;
};

inline constexpr size_t kMaxApiKeys = 4096;

// The key file, YAML: `keys`, a list of {name, sha256, tenant, requests_per_minute, admin}; tenant
// is the name where it is not given. INVALID_ARGUMENT says where ("keys.yaml:7: …") and what.
absl::StatusOr<std::vector<ApiKey>> ParseApiKeys(const std::string& yaml, const std::string& file);

// REQUIRES: times never go back. Not thread-safe.
class KeyRing {
 public:
  // A key of `keys` that was known before keeps what it has used of its quota.
  void Replace(std::vector<ApiKey> keys, absl::Time now);

  struct Answer {
    AccessDecision decision;
    const ApiKey* key = nullptr;  // null: none was recognised. Valid until Replace.
  };
  // A request that is over its key's quota takes nothing from it.
  Answer Check(std::string_view authorization, Access needed, absl::Time now);

  const std::vector<ApiKey>& keys() const { return keys_; }

 private:
  // A bucket that holds a minute's requests and fills evenly.
  struct Quota {
    double left = 0;
    absl::Time at;
  };

  std::vector<ApiKey> keys_;
  std::vector<Quota> quotas_;  // [keys]
};

}  // namespace baton
