// Fills a KernelTable from the templates. Internal linkage on purpose: see vec_avx512.h.
#pragma once

#include "engine/kernels/cpu/attention_impl.h"
#include "engine/kernels/cpu/int8_kv_impl.h"
#include "engine/kernels/cpu/linear_impl.h"
#include "engine/kernels/cpu/quantized_impl.h"
#include "engine/kernels/cpu/rows_impl.h"
#include "engine/kernels/kernel_table.h"

namespace baton {
namespace {

// LinearM: multiply type of Linear; QuantizedM: with quantized weights; AttentionM: of attention;
// Cache: element of the KV cache where it is not int8.
template <typename LinearM, typename QuantizedM, typename AttentionM, typename Cache>
constexpr KernelTable MakeTable(Isa isa) {
  using V = typename LinearM::V;
  using Activation = typename LinearM::A;
  return {
      .isa = isa,
      .activation = sizeof(Activation) == 2 ? ActivationDtype::kBf16 : ActivationDtype::kF32,
      .pack = {.element =
                   sizeof(typename LinearM::B) == 4 ? WeightElement::kF32 : WeightElement::kBf16,
               .panel_columns = V::kLanes * LinearM::kMaxVectors,
               .lanes = V::kLanes,
               .k_step = LinearM::kStep},
      .rms_norm = RmsNormRows<V, Activation>,
      .head_norm = HeadNormRows<V>,
      .linear = LinearOnTile<LinearM>,
      .quantize = QuantizeRows<V, Activation>,
      .quantized_linear = QuantizedLinearOnTile<QuantizedM, V, Activation>,
      .rope = RopeRows<V>,
      .kv = {.write = KvWriteRows<V, Cache>, .attention = Attention<AttentionM, Cache, Activation>},
      .int8_kv = {.write = KvWriteRows<V, Int8Row>,
                  .attention = Attention<AttentionM, Int8Row, Activation>},
      .merge_attention = MergeAttention<AttentionM, Activation>};
}

}  // namespace
}  // namespace baton
