#include "engine/model/model_parts.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/kernels/paged_attention.h"
#include "engine/kernels/quantize.h"
#include "engine/model/safetensors.h"

namespace baton {
namespace {

constexpr char kDummyPrefix[] = "dummy:";
constexpr uint64_t kDummySeed = 1;
constexpr size_t kMaxConfigBytes = 4 << 20;

absl::StatusOr<std::unique_ptr<MappedFile>> OpenConfig(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, MappedFile::Open(path));
  if (file->bytes().size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", file->bytes().size(), " bytes; allowed: ", kMaxConfigBytes));
  }
  return file;
}

}  // namespace

ModelPaths FindPaths(const ModelOptions& options) {
  ModelPaths paths;
  if (absl::StartsWith(options.path, kDummyPrefix)) {
    paths.config_path = options.path.substr(sizeof(kDummyPrefix) - 1);
    paths.default_name = std::filesystem::path(paths.config_path).stem().string();
    return paths;
  }
  const std::filesystem::path directory =
      std::filesystem::path(options.path).lexically_normal() / "";
  paths.config_path = (directory / "config.json").string();
  paths.generation_config_path = (directory / "generation_config.json").string();
  paths.default_name = directory.parent_path().filename().string();
  if (!options.dummy_weights) paths.directory = options.path;
  return paths;
}

absl::StatusOr<ModelConfig> LoadConfig(const ModelPaths& paths) {
  ASSIGN_OR_RETURN(const auto file, OpenConfig(paths.config_path));
  ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(file->text(), paths.config_path));
  std::error_code ignored;
  if (!paths.generation_config_path.empty() &&
      std::filesystem::exists(paths.generation_config_path, ignored)) {
    ASSIGN_OR_RETURN(const auto generation, OpenConfig(paths.generation_config_path));
    RETURN_IF_ERROR(
        ApplyGenerationConfig(generation->text(), paths.generation_config_path, &config));
  }
  return config;
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(const ModelPaths& paths,
                                                          const ModelConfig& config) {
  if (paths.directory.empty()) return MakeDummyWeights(kDummySeed);
  return OpenCheckpoint(paths.directory, config.tied_embeddings);
}

absl::StatusOr<WeightElement> WeightElementOf(const ModelOptions& options) {
  if (options.weights.empty()) return options.f32 ? WeightElement::kF32 : WeightElement::kBf16;
  if (options.weights == "int8") return WeightElement::kInt8;
  if (options.weights == "int4") return WeightElement::kInt4;
  if (options.weights == "fp8") return WeightElement::kFp8;
  return absl::InvalidArgumentError(
      absl::StrCat("weights ", options.weights, " is unknown; allowed: int8, int4, fp8"));
}

double BytesOfWeight(WeightElement element) {
  switch (element) {
    case WeightElement::kBf16:
      return 2;
    case WeightElement::kF32:
      return 4;
    case WeightElement::kInt8:
    case WeightElement::kInt4:
      return static_cast<double>(QuantGroupBytes(element)) / kQuantGroup;
    case WeightElement::kFp8:
      return 1;
  }
  return 4;
}

int64_t CountMatrixNumbers(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size;
  const int64_t per_layer = hidden * (2 * config.QSize() + 2 * config.KvSize()) +
                            3 * hidden * int64_t{config.intermediate_size};
  return per_layer * config.num_layers +
         hidden * config.vocab_size * (config.tied_embeddings ? 1 : 2);
}

absl::Status CheckBlockSize(int32_t block_size) {
  const bool power_of_two = block_size > 0 && (block_size & (block_size - 1)) == 0;
  if (power_of_two && block_size >= kMinKvBlockSize && block_size <= kMaxKvBlockSize) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("block_size is ", block_size,
                                                 "; allowed: a power of two from ", kMinKvBlockSize,
                                                 " to ", kMaxKvBlockSize));
}

ModelInfo MakeModelInfo(const ModelOptions& options, const ModelPaths& paths,
                        const ModelConfig& config) {
  ModelInfo info;
  info.name = options.served_name.empty() ? paths.default_name : options.served_name;
  info.architecture = config.architecture;
  info.num_layers = config.num_layers;
  info.hidden_size = config.hidden_size;
  info.num_heads = config.num_heads;
  info.num_kv_heads = config.num_kv_heads;
  info.head_dim = config.head_dim;
  info.vocab_size = config.vocab_size;
  info.max_model_len = config.max_positions;
  info.eos_tokens = config.eos_tokens;
  return info;
}

}  // namespace baton
