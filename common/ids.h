// Identifiers with types of their own, so that a block cannot be passed where a worker is meant.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <ostream>
#include <utility>

namespace baton {

// A value type around `Rep` that compares and hashes but does no arithmetic. `Tag` makes it unique.
template <typename Tag, typename Rep>
class StrongId {
 public:
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}
  constexpr Rep value() const { return value_; }

  friend constexpr auto operator<=>(StrongId, StrongId) = default;
  friend std::ostream& operator<<(std::ostream& out, StrongId id) { return out << id.value_; }
  template <typename H>
  friend H AbslHashValue(H state, StrongId id) {
    return H::combine(std::move(state), id.value_);
  }

 private:
  Rep value_{};
};

using TokenId = int32_t;  // index into the model's vocabulary; plain, since kernels do arithmetic

// One client request, unique among all routers for as long as any worker may remember it.
using RequestId = StrongId<struct RequestIdTag, uint64_t>;
// A worker process's life: drawn at random at each start, so a restarted worker is a new peer.
using BootId = StrongId<struct BootIdTag, uint64_t>;
// One KV block in a worker's pool: the same index in every layer.
using BlockId = StrongId<struct BlockIdTag, int32_t>;
// A sequence known to one engine. Never reused within a boot.
using SequenceId = StrongId<struct SequenceIdTag, uint64_t>;

// One try at serving a request: the router fences an attempt by starting the next one.
struct RequestKey {
  RequestId request;
  uint32_t attempt = 0;

  friend constexpr auto operator<=>(const RequestKey&, const RequestKey&) = default;
  friend std::ostream& operator<<(std::ostream& out, const RequestKey& key) {
    return out << key.request << '/' << key.attempt;
  }
  template <typename H>
  friend H AbslHashValue(H state, const RequestKey& key) {
    return H::combine(std::move(state), key.request, key.attempt);
  }
};

}  // namespace baton

template <typename Tag, typename Rep>
struct std::hash<baton::StrongId<Tag, Rep>> {
  size_t operator()(baton::StrongId<Tag, Rep> id) const { return std::hash<Rep>()(id.value()); }
};

template <>
struct std::hash<baton::RequestKey> {
  size_t operator()(const baton::RequestKey& key) const {
    return std::hash<uint64_t>()(key.request.value() * 0x9e3779b97f4a7c15u + key.attempt);
  }
};
