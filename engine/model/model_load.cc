#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/strings.h"
#include "engine/kernels/quantize.h"
#include "engine/model/model.h"
#include "engine/model/safetensors.h"
#include "engine/model/transformer.h"

namespace baton {
namespace {

constexpr char kDummyPrefix[] = "dummy:";
constexpr uint64_t kDummySeed = 1;
constexpr size_t kMaxConfigBytes = 4 << 20;
constexpr size_t kMaxCacheName = 64;

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

absl::StatusOr<WeightElement> ElementOf(const ModelOptions& options) {
  if (options.weights.empty()) return options.f32 ? WeightElement::kF32 : WeightElement::kBf16;
  if (options.weights == "int8") return WeightElement::kInt8;
  if (options.weights == "int4") return WeightElement::kInt4;
  return absl::InvalidArgumentError(
      absl::StrCat("weights ", options.weights, " is unknown; allowed: int8, int4"));
}

absl::StatusOr<KvDtype> KvDtypeOf(const ModelOptions& options) {
  if (options.kv_dtype.empty()) return options.f32 ? KvDtype::kF32 : KvDtype::kBf16;
  if (options.kv_dtype == "int8") return KvDtype::kInt8;
  return absl::InvalidArgumentError(
      absl::StrCat("kv_dtype ", options.kv_dtype, " is unknown; allowed: int8"));
}

// Of a weight in memory, with its part of a group's scale.
double BytesOf(WeightElement element) {
  switch (element) {
    case WeightElement::kBf16:
      return 2;
    case WeightElement::kF32:
      return 4;
    case WeightElement::kInt8:
    case WeightElement::kInt4:
      return static_cast<double>(QuantGroupBytes(element)) / kQuantGroup;
  }
  return 4;
}

// Refuses a model that the machine cannot hold, before the system kills the process for it.
absl::Status CheckMemory(const ModelConfig& config, const ModelShard& shard, WeightElement element,
                         const std::string& path) {
  const int64_t hidden = config.hidden_size;
  const int64_t per_layer = hidden * (2 * config.QSize() + 2 * config.KvSize()) +
                            3 * hidden * int64_t{config.intermediate_size};
  const int64_t numbers =
      per_layer * config.num_layers + hidden * config.vocab_size * (config.tied_embeddings ? 1 : 2);
  const auto need_mib =
      static_cast<int64_t>(static_cast<double>(numbers >> 20) * BytesOf(element) / shard.size);
  const int64_t have_mib = (int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE)) >> 20;
  if (need_mib <= have_mib) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(path, ": the weights take ", need_mib,
                                                   " MiB; the machine has ", have_mib, " MiB"));
}

// One file for each model directory and layout: a model that has changed takes its own file's
// place.
std::string CacheFile(const ModelOptions& options, const ModelPaths& paths,
                      const WeightFormats& formats, const ModelShard& shard) {
  if (options.packed_cache.empty()) return "";
  std::error_code error;
  const std::string& model = paths.directory.empty() ? paths.config_path : paths.directory;
  const std::string source = std::filesystem::canonical(model, error).string();
  std::string name = paths.default_name.substr(0, kMaxCacheName);
  for (char& c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '.') c = '_';
  }
  const uint64_t hash =
      HashString(absl::StrCat(source, "\n", formats.Describe(), shard.Describe()));
  return (std::filesystem::path(options.packed_cache) /
          absl::StrCat(name, "-", absl::Hex(hash, absl::kZeroPad16), ".packed"))
      .string();
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
  ASSIGN_OR_RETURN(const WeightElement element, ElementOf(options));
  ASSIGN_OR_RETURN(const KvDtype kv_dtype, KvDtypeOf(options));
  const ModelPaths paths = FindPaths(options);
  Transformer::Parts parts;
  ASSIGN_OR_RETURN(parts.config, LoadConfig(paths));
  const TensorParallelOptions& group = options.tensor_parallel;
  const ModelShard shard = {.rank = group.rank,
                            .size = group.size,
                            .split = group.by_rows ? TensorSplit::kRows : TensorSplit::kColumns};
  RETURN_IF_ERROR(CheckShard(parts.config, shard));
  RETURN_IF_ERROR(CheckMemory(parts.config, shard, element, paths.config_path));
  parts.kernels = &GetKernels(isa, options.f32);
  parts.op_times = options.op_times;
  ASSIGN_OR_RETURN(parts.pool, ComputePool::Create(options.num_threads, options.pin_cpus));
  std::unique_ptr<WeightSource> source = MakeDummyWeights(kDummySeed);
  if (!paths.directory.empty()) {
    ASSIGN_OR_RETURN(source, OpenCheckpoint(paths.directory, parts.config.tied_embeddings));
  }
  const WeightFormats formats = FormatsOf(parts.config, element, *parts.kernels);
  ASSIGN_OR_RETURN(parts.weights,
                   LoadWeights({.config = parts.config,
                                .shard = shard,
                                .formats = formats,
                                .pool = parts.pool.get(),
                                .source = source.get(),
                                .cache_file = CacheFile(options, paths, formats, shard),
                                .note = options.note},
                               progress));
  parts.info = MakeInfo(parts.config, parts.weights);
  parts.info.name = options.served_name.empty() ? paths.default_name : options.served_name;
  parts.info.weight_dtype =
      !options.weights.empty() ? options.weights : (options.f32 ? "f32" : "bf16");
  parts.info.kernels = IsaName(parts.kernels->isa);
  parts.info.fingerprint =
      HashCombine(HashString(parts.config.Canonical()), parts.weights.fingerprint);
  // Other tokens come out of f32, int8, int4 or another KV dtype: such a worker may not go on where
  // a bf16 one died.
  for (const std::string& unlike :
       {std::string(options.f32 ? "f32" : ""), options.weights,
        options.kv_dtype.empty() ? "" : absl::StrCat("kv ", options.kv_dtype)}) {
    if (unlike.empty()) continue;
    parts.info.fingerprint = HashCombine(parts.info.fingerprint, HashString(unlike));
  }
  // By rows, sums depend on the group: a worker of another size may not go on with its answers.
  if (!shard.IsWhole() && group.by_rows) {
    parts.info.fingerprint =
        HashCombine(parts.info.fingerprint, HashString(absl::StrCat("rows over ", group.size)));
  }
  parts.layout = {.num_layers = parts.config.num_layers,
                  .num_kv_heads = parts.config.num_kv_heads / shard.size,
                  .head_dim = parts.config.head_dim,
                  .block_size = options.block_size,
                  .dtype = kv_dtype};
  if (!shard.IsWhole()) {
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> communicator, group.connect());
    parts.ranks = std::make_unique<ShardExchange>(shard, std::move(communicator));
  }
  return std::make_unique<Transformer>(std::move(parts));
}

}  // namespace baton
