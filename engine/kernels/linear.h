// input * weights^T + bias, with weights packed once when the model loads, and what follows it.
//
// Every element of the product is one chain of multiply-adds over k in rising order, whatever the
// number of rows and however the work is cut, so a row's result does not depend on its batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/kernel_table.h"

namespace baton {

// A weight matrix [n, k] (n outputs, as Hugging Face stores it) cut into panels of
// format.panel_columns outputs. A panel is contiguous: [ceil(k / k_step), columns, k_step], zeros
// where n or k is padded. Quantized ones: see cpu/quantized_impl.h.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  PackedMatrix(int32_t n, int32_t k, const PackFormat& format);
  // Over `packed`, the data() of another one of this shape and format: not to be packed, and not
  // copied; it lives longer than this. REQUIRES: BytesOf bytes, aligned to 64.
  PackedMatrix(int32_t n, int32_t k, const PackFormat& format, std::span<const std::byte> packed);
  static size_t BytesOf(int32_t n, int32_t k, const PackFormat& format);

  int32_t n() const { return n_; }
  int32_t k() const { return k_; }
  const PackFormat& format() const { return format_; }
  int32_t num_panels() const { return num_panels_; }
  int32_t PanelColumns(int32_t panel) const;  // with padding
  int64_t bytes() const { return static_cast<int64_t>(data_.size()); }
  std::span<const std::byte> data() const { return data_; }
  const std::byte* Panel(int32_t panel) const { return data_.data() + PanelOffset(panel); }
  // Of one group of inputs in a panel; REQUIRES: quantized.
  int64_t GroupBytes(int32_t panel) const;

  // Fills outputs [panel * panel_columns, + rows.size()). `rows[i]`: [k] of the element type, f32
  // if it is quantized. Different panels may be packed at the same time.
  void PackPanel(int32_t panel, std::span<const float* const> rows);
  void PackPanel(int32_t panel, std::span<const Bf16* const> rows);
  // output[k] = the weights of output `row`, as they are multiplied.
  void UnpackRow(int32_t row, float* output) const;

  void SetBias(std::vector<float> bias);  // [n]
  const float* bias() const { return bias_.empty() ? nullptr : bias_.data(); }

 private:
  template <typename T>
  void Pack(int32_t panel, std::span<const T* const> rows);
  void Quantize(int32_t panel, std::span<const float* const> rows);
  void UnpackQuantizedRow(int32_t row, float* output) const;
  struct Unfilled {};
  PackedMatrix(Unfilled unfilled, int32_t n, int32_t k, const PackFormat& format);
  size_t ColumnBytes() const;  // of one output
  size_t PanelOffset(int32_t panel) const {
    return static_cast<size_t>(panel) * static_cast<size_t>(format_.panel_columns) * ColumnBytes();
  }

  int32_t n_ = 0;
  int32_t k_ = 0;
  int32_t num_panels_ = 0;
  PackFormat format_;
  AlignedBuffer own_;                // empty over other memory
  std::span<const std::byte> data_;  // own_, or the other memory
  std::vector<float> bias_;          // empty, or [n] and padding
};

// What becomes of the product [rows, n], which is f32.
enum class Epilogue {
  kStore,  // output = product: f32 [rows, n]
  kAddTo,  // output = output + product: f32 [rows, n]
  // output = silu(gate) * up: [rows, n / 2] of the activation dtype. Of output i, column 2 * i of
  // the product is the gate, the next one is the up; n is even.
  kSiluMul,
};

struct LinearArgs {
  const void* input = nullptr;  // [rows, k] of the activation dtype; k is even
  const PackedMatrix* weights = nullptr;
  Epilogue epilogue = Epilogue::kStore;
  void* output = nullptr;  // see Epilogue; not the input
  int32_t rows = 0;
  AlignedBuffer* scratch = nullptr;  // for quantized weights: grows to hold the quantized input
};

// One unit of work: some rows of some panels.
struct LinearTile {
  int32_t row_begin = 0;
  int32_t row_end = 0;
  int32_t panel_begin = 0;
  int32_t panel_end = 0;
  // So that the part of the input in use stays in a cache: a share of k is multiplied with this
  // many panels before the next share is. The sums are kept as they are meanwhile, so it does not
  // affect results. Quantized weights take all of k at once.
  int64_t share_of_k = 0;        // k: all at once
  int32_t panels_per_share = 0;  // for share_of_k < k
  float* sums = nullptr;         // [panels_per_share, rows, panel_columns], for share_of_k < k
};

void Linear(const OpContext& context, const LinearArgs& args);

}  // namespace baton
