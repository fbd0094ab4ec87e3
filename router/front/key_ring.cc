#include "router/front/key_ring.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace baton {
namespace {

using Result = AccessDecision::Result;

// The key in "Bearer KEY"; empty when there is none.
std::string_view BearerKey(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return {};
  const absl::string_view scheme(authorization.data(), kScheme.size());
  if (!absl::EqualsIgnoreCase(scheme, absl::string_view(kScheme.data(), kScheme.size()))) return {};
  authorization.remove_prefix(kScheme.size());
  while (!authorization.empty() && absl::ascii_isspace(authorization.front())) {
    authorization.remove_prefix(1);
  }
  while (!authorization.empty() && absl::ascii_isspace(authorization.back())) {
    authorization.remove_suffix(1);
  }
  return authorization;
}

}  // namespace

void KeyRing::Replace(std::vector<ApiKey> keys, absl::Time now) {
  std::map<Sha256Digest, Quota> used;
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i].requests_per_minute > 0) used.emplace(keys_[i].sha256, quotas_[i]);
  }
  std::vector<Quota> quotas;
  for (const ApiKey& key : keys) {
    Quota quota{static_cast<double>(key.requests_per_minute), now};
    if (const auto found = used.find(key.sha256); found != used.end()) {
      quota = {std::min(quota.left, found->second.left), found->second.at};
    }
    quotas.push_back(quota);
  }
  keys_ = std::move(keys);
  quotas_ = std::move(quotas);
}

KeyRing::Answer KeyRing::Check(std::string_view authorization, Access needed, absl::Time now) {
  const std::string_view presented = BearerKey(authorization);
  if (presented.empty()) return {{.result = Result::kNoKey}};
  const Sha256Digest digest = Sha256(presented);
  size_t found = keys_.size();
  for (size_t i = 0; i < keys_.size(); ++i) {  // all of them, whichever it is
    if (EqualInConstantTime(Bytes(keys_[i].sha256), Bytes(digest))) found = i;
  }
  if (found == keys_.size()) return {{.result = Result::kWrongKey}};
  const ApiKey& key = keys_[found];
  if (needed == Access::kAdmin && !key.admin) return {{.result = Result::kNotAdmin}, &key};
  if (key.requests_per_minute > 0) {
    Quota& quota = quotas_[found];
    const double per_second = key.requests_per_minute / 60.0;
    quota.left = std::min(static_cast<double>(key.requests_per_minute),
                          quota.left + per_second * absl::ToDoubleSeconds(now - quota.at));
    quota.at = now;
    if (quota.left < 1) {
      const absl::Duration wait = absl::Seconds((1 - quota.left) / per_second);
      return {{.result = Result::kOverQuota, .tenant = {}, .retry_after = wait}, &key};
    }
    quota.left -= 1;
  }
  return {{.result = Result::kAllowed, .tenant = key.tenant}, &key};
}

}  // namespace baton
