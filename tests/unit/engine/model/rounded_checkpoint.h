// For tests: the weights of a model with random ones, rounded to int8, int4 or fp8 and written out
// as the f32 numbers that they stand for. Loaded in f32 it has what a quantized model should
// compute.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/kernels/cuda/fp8.h"
#include "engine/kernels/linear.h"
#include "engine/model/model_parts.h"
#include "engine/model/weight_loader.h"
#include "tests/unit/engine/model/model_files.h"

namespace baton {

class RoundedCheckpoint {
 public:
  // `path`: of a model with random weights; `element`: as asked for, see ElementFor.
  RoundedCheckpoint(const std::string& path, WeightElement element) : reader_(element) {
    ModelOptions options;
    options.path = path;
    const ModelPaths paths = FindPaths(options);
    const ModelConfig config = *LoadConfig(paths);
    const std::unique_ptr<WeightSource> source = *OpenWeights(paths, config);
    reader_.source = source.get();
    const ModelShard whole;
    const LoadProgressFn no_progress;
    WeightLoader<std::vector<float>, Read> loader(config, whole, &reader_, no_progress);
    BATON_CHECK_OK(loader.Load().status());
    std::ifstream text(paths.config_path);
    const std::string config_text{std::istreambuf_iterator<char>(text), {}};
    directory_.Write("config.json", config_text);
    directory_.Write("model.safetensors", reader_.Bytes());
  }
  std::string path() const { return directory_.path(); }

 private:
  struct Read {
    int32_t rows = 0;
    int32_t n() const { return rows; }
    int64_t bytes() const { return 0; }
  };

  struct Reader final : WeightReader<std::vector<float>, Read> {
    explicit Reader(WeightElement asked_for) : element(asked_for) {}

    absl::StatusOr<std::vector<float>> Vector(const std::string& name, WeightRole role,
                                              int64_t size) override {
      ASSIGN_OR_RETURN(std::vector<float> values, ReadVector(name, role, size, *source));
      Add(name, absl::StrCat(size), values);
      return values;
    }
    absl::StatusOr<Read> Matrix(const MatrixShape& shape, MatrixUse use) override {
      const WeightElement kept = ElementFor(use, element, WeightElement::kF32);
      ASSIGN_OR_RETURN(const MatrixTensors tensors, OpenTensors(shape, *source));
      for (size_t part = 0; part < shape.parts.size(); ++part) {
        const std::string& name = shape.parts[part].name;
        const int32_t n = shape.parts[part].rows;
        Add(absl::StrCat(name, ".weight"), absl::StrCat(n, ",", shape.columns),
            Rounded(tensors.weights[part], n, shape.columns, kept));
        if (!shape.bias) continue;
        RETURN_IF_ERROR(Vector(absl::StrCat(name, ".bias"), WeightRole::kBias, n).status());
      }
      return Read{static_cast<int32_t>(shape.Rows())};
    }
    absl::Status Finish() override { return absl::OkStatus(); }

    static std::vector<float> Rounded(const WeightTensor& tensor, int32_t n, int32_t k,
                                      WeightElement kept) {
      std::vector<float> values(static_cast<size_t>(n) * static_cast<size_t>(k));
      if (kept == WeightElement::kFp8) {
        RoundToFp8(tensor, n, static_cast<size_t>(k), values);
        return values;
      }
      const PackFormat format = GetKernels(Isa::kAvx2, /*f32=*/true).PackOf(kept);
      PackedMatrix packed(n, k, format);
      for (int32_t first = 0; first < n; first += format.panel_columns) {
        std::vector<const float*> rows;
        for (int32_t i = first; i < std::min(n, first + format.panel_columns); ++i) {
          float* row = values.data() + int64_t{i} * k;
          tensor.ReadRow(i, row);
          rows.push_back(row);
        }
        packed.PackPanel(first / format.panel_columns, rows);
      }
      for (int32_t i = 0; i < n; ++i) packed.UnpackRow(i, values.data() + int64_t{i} * k);
      return values;
    }

    static void RoundToFp8(const WeightTensor& tensor, int32_t n, size_t k,
                           std::span<float> values) {
      std::vector<uint8_t> codes(k);
      for (int32_t i = 0; i < n; ++i) {
        const std::span<float> row = values.subspan(static_cast<size_t>(i) * k, k);
        tensor.ReadRow(i, row.data());
        const float scale = RoundRowToE4m3(row, codes.data());
        std::ranges::transform(codes, row.begin(),
                               [&](uint8_t code) { return scale * FromE4m3(code); });
      }
    }

    void Add(const std::string& name, const std::string& shape, const std::vector<float>& values) {
      const size_t begin = data.size();
      data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
      entries.push_back(absl::StrCat("\"", name, "\":{\"dtype\":\"F32\",\"shape\":[", shape,
                                     "],\"data_offsets\":[", begin, ",", data.size(), "]}"));
    }
    std::string Bytes() const {
      return SafetensorsBytes(absl::StrCat("{", absl::StrJoin(entries, ","), "}"), 0) + data;
    }

    const WeightElement element;
    WeightSource* source = nullptr;
    std::vector<std::string> entries;
    std::string data;
  };

  Reader reader_;
  TempDirectory directory_;
};

}  // namespace baton
