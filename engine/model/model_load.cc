#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/strings.h"
#include "engine/model/model.h"
#include "engine/model/safetensors.h"
#include "engine/model/transformer.h"

namespace baton {
namespace {

constexpr char kDummyPrefix[] = "dummy:";
constexpr uint64_t kDummySeed = 1;
constexpr size_t kMaxConfigBytes = 4 << 20;

// Where the parts of a model come from.
struct ModelPaths {
  std::string directory;  // of weights; empty for random ones
  std::string config_path;
  std::string generation_config_path;  // may not exist
  std::string default_name;
};

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

absl::StatusOr<std::unique_ptr<MappedFile>> OpenConfig(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, MappedFile::Open(path));
  if (file->bytes().size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", file->bytes().size(), " bytes; allowed: ", kMaxConfigBytes));
  }
  return file;
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

absl::Status CheckBlockSize(int32_t block_size) {
  const bool power_of_two = block_size > 0 && (block_size & (block_size - 1)) == 0;
  if (power_of_two && block_size >= kMinKvBlockSize && block_size <= kMaxKvBlockSize) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("block_size is ", block_size,
                                                 "; allowed: a power of two from ", kMinKvBlockSize,
                                                 " to ", kMaxKvBlockSize));
}

// Refuses a model that the machine cannot hold, before the system kills the process for it.
absl::Status CheckMemory(const ModelConfig& config, bool f32, const std::string& path) {
  const int64_t hidden = config.hidden_size;
  const int64_t per_layer = hidden * (2 * config.QSize() + 2 * config.KvSize()) +
                            3 * hidden * int64_t{config.intermediate_size};
  const int64_t numbers =
      per_layer * config.num_layers + hidden * config.vocab_size * (config.tied_embeddings ? 1 : 2);
  const int64_t need_mib = (numbers >> 20) * (f32 ? 4 : 2);
  const int64_t have_mib = (int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE)) >> 20;
  if (need_mib <= have_mib) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(path, ": the weights take ", need_mib,
                                                   " MiB; the machine has ", have_mib, " MiB"));
}

ModelInfo MakeInfo(const ModelConfig& config, const ModelWeights& weights) {
  ModelInfo info;
  info.architecture = config.architecture;
  info.num_layers = config.num_layers;
  info.hidden_size = config.hidden_size;
  info.num_heads = config.num_heads;
  info.num_kv_heads = config.num_kv_heads;
  info.head_dim = config.head_dim;
  info.vocab_size = config.vocab_size;
  info.max_model_len = config.max_positions;
  info.num_parameters = weights.num_parameters;
  info.weight_bytes = weights.bytes;
  info.eos_tokens = config.eos_tokens;
  return info;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Model::Load(const ModelOptions& options,
                                                   const LoadProgressFn& progress) {
  RETURN_IF_ERROR(CheckBlockSize(options.block_size));
  ASSIGN_OR_RETURN(const Isa isa, SelectIsa(options.isa));
  const ModelPaths paths = FindPaths(options);
  Transformer::Parts parts;
  ASSIGN_OR_RETURN(parts.config, LoadConfig(paths));
  RETURN_IF_ERROR(CheckMemory(parts.config, options.f32, paths.config_path));
  parts.kernels = &GetKernels(isa, options.f32);
  ASSIGN_OR_RETURN(parts.pool, ComputePool::Create(options.num_threads, options.pin_cpus));
  std::unique_ptr<WeightSource> source = MakeDummyWeights(kDummySeed);
  if (!paths.directory.empty()) {
    ASSIGN_OR_RETURN(source, OpenCheckpoint(paths.directory, parts.config.tied_embeddings));
  }
  ASSIGN_OR_RETURN(parts.weights, LoadWeights(parts.config, {*parts.kernels, *parts.pool},
                                              source.get(), progress));
  parts.info = MakeInfo(parts.config, parts.weights);
  parts.info.name = options.served_name.empty() ? paths.default_name : options.served_name;
  parts.info.weight_dtype = options.f32 ? "f32" : "bf16";
  parts.info.kernels = IsaName(parts.kernels->isa);
  parts.info.fingerprint = HashCombine(HashString(parts.config.Canonical()), source->fingerprint());
  // Other tokens come out of f32: such a worker may not go on where a bf16 one died.
  if (options.f32) {
    parts.info.fingerprint = HashCombine(parts.info.fingerprint, HashString("f32"));
  }
  parts.layout = {.num_layers = parts.config.num_layers,
                  .num_kv_heads = parts.config.num_kv_heads,
                  .head_dim = parts.config.head_dim,
                  .block_size = options.block_size,
                  .dtype = options.f32 ? KvDtype::kF32 : KvDtype::kBf16};
  return std::make_unique<Transformer>(std::move(parts));
}

}  // namespace baton
