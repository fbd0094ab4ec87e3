#include "tests/unit/engine/cuda/attention_harness.h"

namespace baton {
namespace {

// The emulation adds alike in both instructions, so that equal bits show that both kernels take the
// same numbers in the same order.
using WgmmaAttentionTest = CudaAttentionTest;

TEST_F(WgmmaAttentionTest, DoesWhatTheKernelOfMmaDoes) {
  for (const int32_t head_dim : {64, 128}) {
    for (const int32_t window : {0, 530}) {
      const AttentionShapeCase shape{
          .num_heads = 4, .num_kv_heads = 2, .head_dim = head_dim, .window = window};
      SCOPED_TRACE(shape);
      AttentionWorld world(shape, {40, 1200});
      world.Kv(1, 300, 1, 0)[3] = Bf16{0x7f80};  // infinity, for later ranges to keep
      AttentionRun run{.kind = AttentionKind::kPrefill,
                       .rows = {{.sequence = 0, .start_position = 0, .num_rows = 40},
                                {.sequence = 1, .start_position = 1030, .num_rows = 170}}};
      const std::vector<Bf16> by_mma = Run(world, run);
      run.kind = AttentionKind::kWgmmaPrefill;
      EXPECT_EQ(Run(world, run), by_mma);
    }
  }
}

}  // namespace
}  // namespace baton
