// What the server is and what it understands, asked before the run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/client/target.h"

namespace baton::load {

struct ServedModelInfo {
  std::string id;
  int32_t max_model_len = 0;  // 0: not told
  int32_t vocab_size = 0;     // 0: not told
};

// GET /v1/models. An error says what the server did instead of answering.
absl::StatusOr<std::vector<ServedModelInfo>> ListModels(const Target& target,
                                                        absl::Duration timeout);

// GET /version, "" when there is none.
std::string ServerVersion(const Target& target, absl::Duration timeout);

// Sends one small request as `target` says; where the server refuses it (400, 422), others that ask
// for less, until one is answered. Sets target->body to that one and returns what was given up, one
// sentence each. An error says how the first one failed, when none was answered.
absl::StatusOr<std::vector<std::string>> NegotiateBody(Target* target, absl::Duration timeout);

// Sends one small request in each named class. InvalidArgument, with the server's words, when it
// refuses one (400, 422); other failures are left for the run to count. `target` as NegotiateBody
// has left it.
absl::Status CheckSloClasses(const Target& target, const std::vector<SloClass>& classes,
                             absl::Duration timeout);

}  // namespace baton::load
