#include "engine/kernels/linear.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "common/check.h"

namespace baton {
namespace {

constexpr size_t kPackBlock = 64;  // k's of all rows of a panel packed together, for the cache

float WidenElement(float value) { return value; }
float WidenElement(Bf16 value) { return ToFloat(value); }

// target: [ceil(k / kStep), columns, kStep]
template <typename T, size_t kStep>
void PackRows(std::span<const T* const> rows, size_t k, size_t columns, T* target) {
  for (size_t begin = 0; begin < k; begin += kPackBlock) {
    const size_t end = std::min(k, begin + kPackBlock);
    for (size_t column = 0; column < rows.size(); ++column) {
      const T* row = rows[column];
      for (size_t i = begin; i < end; ++i) {
        target[(i / kStep * columns + column) * kStep + i % kStep] = row[i];
      }
    }
  }
}

}  // namespace

PackedMatrix::PackedMatrix(int32_t n, int32_t k, const PackFormat& format)
    : n_(n),
      k_(k),
      num_panels_((n + format.panel_columns - 1) / format.panel_columns),
      format_(format) {
  BATON_CHECK(format.k_step == 1 || format.k_step == 2) << format.k_step;
  int64_t columns = 0;
  for (int32_t panel = 0; panel < num_panels_; ++panel) columns += PanelColumns(panel);
  data_ = AlignedBuffer(static_cast<size_t>(columns) * PaddedK() * (format.f32 ? 4 : 2));
}

int32_t PackedMatrix::PanelColumns(int32_t panel) const {
  const int32_t columns = std::min(format_.panel_columns, n_ - panel * format_.panel_columns);
  return (columns + format_.lanes - 1) / format_.lanes * format_.lanes;
}

size_t PackedMatrix::PanelOffset(int32_t panel) const {
  return static_cast<size_t>(panel) * static_cast<size_t>(format_.panel_columns) * PaddedK() *
         (format_.f32 ? 4 : 2);
}

template <typename T>
void PackedMatrix::Pack(int32_t panel, std::span<const T* const> rows) {
  const auto columns = static_cast<size_t>(PanelColumns(panel));
  BATON_CHECK(rows.size() <= columns) << rows.size() << " rows, " << columns << " columns";
  BATON_CHECK(format_.f32 == (sizeof(T) == 4));
  T* target = reinterpret_cast<T*>(data_.data() + PanelOffset(panel));
  if (format_.k_step == 1) {
    PackRows<T, 1>(rows, static_cast<size_t>(k_), columns, target);
  } else {
    PackRows<T, 2>(rows, static_cast<size_t>(k_), columns, target);
  }
}

void PackedMatrix::PackPanel(int32_t panel, std::span<const float* const> rows) {
  Pack<float>(panel, rows);
}

void PackedMatrix::PackPanel(int32_t panel, std::span<const Bf16* const> rows) {
  Pack<Bf16>(panel, rows);
}

void PackedMatrix::UnpackRow(int32_t row, float* output) const {
  const int32_t panel = row / format_.panel_columns;
  const auto columns = static_cast<size_t>(PanelColumns(panel));
  const auto column = static_cast<size_t>(row % format_.panel_columns);
  const auto step = static_cast<size_t>(format_.k_step);
  const auto unpack = [&](const auto* source) {
    for (size_t i = 0; i < static_cast<size_t>(k_); i += step) {
      const auto* pair = source + i * columns + column * step;
      for (size_t j = 0; j < step && i + j < static_cast<size_t>(k_); ++j) {
        output[i + j] = WidenElement(pair[j]);
      }
    }
  };
  if (format_.f32) {
    unpack(reinterpret_cast<const float*>(Panel(panel)));
  } else {
    unpack(reinterpret_cast<const Bf16*>(Panel(panel)));
  }
}

void PackedMatrix::SetBias(std::vector<float> bias) {
  BATON_CHECK(static_cast<int32_t>(bias.size()) == n_) << bias.size() << " of " << n_;
  bias.resize(static_cast<size_t>(num_panels_) * static_cast<size_t>(format_.panel_columns));
  bias_ = std::move(bias);
}

}  // namespace baton
