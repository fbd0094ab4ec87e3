#include "engine/kernels/linear.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "common/check.h"
#include "engine/kernels/quantize.h"
#include "engine/kernels/quantize_weights.h"

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

// Where input i's level of one column lies in a group's levels, and whether in the high half.
struct LevelPlace {
  size_t byte;
  bool high;
};
LevelPlace PlaceOfLevel(WeightElement element, size_t columns, size_t column, size_t i) {
  const bool int4 = element == WeightElement::kInt4;
  const size_t step = int4 ? i / 8 : i / 4;
  return {(step * columns + column) * 4 + i % 4, int4 && i % 8 >= 4};
}

}  // namespace

PackedMatrix::PackedMatrix(Unfilled /*unfilled*/, int32_t n, int32_t k, const PackFormat& format)
    : n_(n),
      k_(k),
      num_panels_((n + format.panel_columns - 1) / format.panel_columns),
      format_(format) {}

PackedMatrix::PackedMatrix(int32_t n, int32_t k, const PackFormat& format)
    : PackedMatrix(Unfilled{}, n, k, format) {
  own_ = AlignedBuffer(BytesOf(n, k, format));
  data_ = {own_.data(), own_.size()};
}

PackedMatrix::PackedMatrix(int32_t n, int32_t k, const PackFormat& format,
                           std::span<const std::byte> packed)
    : PackedMatrix(Unfilled{}, n, k, format) {
  BATON_CHECK(packed.size() == BytesOf(n, k, format)) << packed.size() << " bytes";
  BATON_CHECK(reinterpret_cast<uintptr_t>(packed.data()) % 64 == 0);
  data_ = packed;
}

size_t PackedMatrix::BytesOf(int32_t n, int32_t k, const PackFormat& format) {
  const PackedMatrix matrix(Unfilled{}, n, k, format);
  int64_t columns = 0;
  for (int32_t panel = 0; panel < matrix.num_panels_; ++panel) {
    columns += matrix.PanelColumns(panel);
  }
  return static_cast<size_t>(columns) * matrix.ColumnBytes();
}

size_t PackedMatrix::ColumnBytes() const {
  if (IsQuantized(format_.element)) {
    return static_cast<size_t>(NumQuantGroups(k_) * QuantGroupBytes(format_.element));
  }
  const auto step = static_cast<size_t>(format_.k_step);
  const size_t padded_k = (static_cast<size_t>(k_) + step - 1) / step * step;
  return (format_.element == WeightElement::kF32 ? sizeof(float) : sizeof(Bf16)) * padded_k;
}

int64_t PackedMatrix::GroupBytes(int32_t panel) const {
  return PanelColumns(panel) * QuantGroupBytes(format_.element);
}

int32_t PackedMatrix::PanelColumns(int32_t panel) const {
  const int32_t columns = std::min(format_.panel_columns, n_ - panel * format_.panel_columns);
  return (columns + format_.lanes - 1) / format_.lanes * format_.lanes;
}

template <typename T>
void PackedMatrix::Pack(int32_t panel, std::span<const T* const> rows) {
  const auto columns = static_cast<size_t>(PanelColumns(panel));
  BATON_CHECK(rows.size() <= columns) << rows.size() << " rows, " << columns << " columns";
  BATON_CHECK(format_.element == (sizeof(T) == 4 ? WeightElement::kF32 : WeightElement::kBf16));
  T* target = reinterpret_cast<T*>(own_.data() + PanelOffset(panel));
  if (format_.k_step == 1) {
    PackRows<T, 1>(rows, static_cast<size_t>(k_), columns, target);
  } else {
    PackRows<T, 2>(rows, static_cast<size_t>(k_), columns, target);
  }
}

void PackedMatrix::Quantize(int32_t panel, std::span<const float* const> rows) {
  const auto columns = static_cast<size_t>(PanelColumns(panel));
  BATON_CHECK(rows.size() <= columns) << rows.size() << " rows, " << columns << " columns";
  const bool int4 = format_.element == WeightElement::kInt4;
  std::byte* target = own_.data() + PanelOffset(panel);
  std::vector<const float*> values(rows.begin(), rows.end());  // each row's part of the group
  for (int32_t begin = 0; begin < k_; begin += kQuantGroup, target += GroupBytes(panel)) {
    const QuantizeGroupArgs group = {
        .rows = values.data(),
        .num_rows = values.size(),
        .count = static_cast<size_t>(std::min(kQuantGroup, k_ - begin)),
        .columns = columns,
        .scales = reinterpret_cast<Bf16*>(target),
        .levels = reinterpret_cast<uint8_t*>(target) + columns * sizeof(Bf16)};
    if (int4) {
      QuantizeGroupToInt4(group);
    } else {
      QuantizeGroupToInt8(group);
    }
    for (const float*& row : values) row += group.count;
  }
}

void PackedMatrix::UnpackQuantizedRow(int32_t row, float* output) const {
  const int32_t panel = row / format_.panel_columns;
  const auto columns = static_cast<size_t>(PanelColumns(panel));
  const auto column = static_cast<size_t>(row % format_.panel_columns);
  const bool int4 = format_.element == WeightElement::kInt4;
  const std::byte* source = Panel(panel);
  for (int32_t begin = 0; begin < k_; begin += kQuantGroup, source += GroupBytes(panel)) {
    const float scale = ToFloat(reinterpret_cast<const Bf16*>(source)[column]);
    const auto* levels = reinterpret_cast<const uint8_t*>(source) + columns * sizeof(Bf16);
    const int32_t count = std::min(kQuantGroup, k_ - begin);
    for (int32_t i = 0; i < count; ++i) {
      const LevelPlace place =
          PlaceOfLevel(format_.element, columns, column, static_cast<size_t>(i));
      int32_t level = levels[place.byte];
      if (int4) level = (level >> (place.high ? 4 : 0)) & 15;
      output[begin + i] = scale * static_cast<float>(level - (int4 ? kInt4Bias : kInt8Bias));
    }
  }
}

void PackedMatrix::PackPanel(int32_t panel, std::span<const float* const> rows) {
  if (IsQuantized(format_.element)) {
    Quantize(panel, rows);
  } else {
    Pack<float>(panel, rows);
  }
}

void PackedMatrix::PackPanel(int32_t panel, std::span<const Bf16* const> rows) {
  Pack<Bf16>(panel, rows);
}

void PackedMatrix::UnpackRow(int32_t row, float* output) const {
  if (IsQuantized(format_.element)) {
    UnpackQuantizedRow(row, output);
    return;
  }
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
  if (format_.element == WeightElement::kF32) {
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
