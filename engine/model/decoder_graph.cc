#include "engine/model/decoder_graph.h"

#include "common/check.h"

namespace baton {

absl::Status RunDecoder(int32_t num_layers, DecoderSteps& steps) {
  // 1. residual = embedding[tokens]; rotation angles of the rows' positions.
  steps.Embed();

  for (int32_t layer = 0; layer < num_layers; ++layer) {
    // 2. qkv = q, k, v of norm(residual), normed and rotated; k and v into the cache: final from
    // here, where ranks compute the model together from where they have joined their attention.
    steps.ComputeQkv(layer);

    // 3. residual += attention over the cache, projected
    steps.Attend(layer);
    RETURN_IF_ERROR(steps.status());

    // 4. residual += down(silu(gate) * up) of norm(residual)
    steps.FeedForward(layer);
  }

  // 5. Logits of the rows that were asked for.
  steps.ComputeLogits();
  return steps.status();
}

}  // namespace baton
