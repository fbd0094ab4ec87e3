// Batches of a fixed shape over a model, and the time that a forward pass over one takes.
#pragma once

#include <time.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/kv/kv_cache.h"
#include "engine/model/model.h"

namespace baton {

double Seconds(clockid_t clock);

struct Timing {
  double wall_seconds = 1e30;
  double cpu_seconds = 1e30;  // of all threads
};

// `sequences` sequences that have `context` tokens behind them, the first `shared` of them in the
// same KV blocks, and run `tokens` more each.
struct Shape {
  const char* name = "";
  int32_t sequences = 0;
  int32_t context = 0;
  int32_t tokens = 0;
  int32_t shared = 0;
  bool all_logits = false;  // else the last token's
};
inline constexpr Shape kShapes[] = {{"prefill 512", 1, 0, 512},
                                    {"prefill 2048", 1, 0, 2048},
                                    {"decode 1", 1, 256, 1},
                                    {"decode 8", 8, 256, 1},
                                    {"decode 32", 32, 256, 1},
                                    {"decode 1 at 2048", 1, 2048, 1},
                                    {"decode 16 at 2048", 16, 2048, 1},
                                    {"  1,792 shared", 16, 2048, 1, 1792}};

// A shape's batch over a KV cache that holds every sequence's context. Borrows the model. Not
// movable: the batch points into it.
class PreparedShape {
 public:
  static absl::StatusOr<std::unique_ptr<PreparedShape>> Create(Model* model, const Shape& shape);

  absl::StatusOr<Timing> Run();
  // In the place of a shape's own; as many.
  void SetTokens(std::span<const TokenId> tokens);
  const Logits& logits() const { return logits_; }

 private:
  explicit PreparedShape(Model* model) : model_(*model) {}
  absl::Status Prepare(const Shape& shape);
  void CopyBlocks(const std::vector<BlockId>& from, const std::vector<BlockId>& to);

  Model& model_;
  std::unique_ptr<KvCache> cache_;
  std::vector<TokenId> tokens_;               // that each sequence runs
  std::vector<std::vector<BlockId>> tables_;  // [sequences]
  std::vector<ForwardSequence> batch_;        // [sequences]
  Logits logits_;
};

}  // namespace baton
