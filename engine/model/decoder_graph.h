// The one model graph: a decoder of the Llama line as a row of steps. Which rows a step computes,
// where their numbers lie and what computes them is the backend's business.
#pragma once

#include <cstdint>

#include "absl/status/status.h"

namespace baton {

// What a backend computes of one forward pass, or enqueues. Of every row of the batch there are a
// residual, and queries, keys and values. A norm belongs to the product behind it, which knows in
// what form it takes its input. The backend reports a layer as done where its KV is final: that is
// in ComputeQkv at the earliest.
class DecoderSteps {
 public:
  // residual = embedding[tokens], and what all layers need of the rows' positions.
  virtual void Embed() = 0;
  // q, k, v of norm(residual), normed and rotated; k and v into the cache.
  virtual void ComputeQkv(int32_t layer) = 0;
  // residual += attention over the cache, projected
  virtual void Attend(int32_t layer) = 0;
  // residual += down(silu(gate) * up) of norm(residual)
  virtual void FeedForward(int32_t layer) = 0;
  // Of the final norm of the rows that were asked for.
  virtual void ComputeLogits() = 0;
  // The first error so far; steps behind it do nothing of use.
  virtual absl::Status status() const = 0;

 protected:
  ~DecoderSteps() = default;
};

// All steps in order. Asks for the status once a layer, and at the end.
absl::Status RunDecoder(int32_t num_layers, DecoderSteps& steps);

}  // namespace baton
