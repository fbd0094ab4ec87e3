#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/strings.h"
#include "engine/model/model.h"
#include "engine/model/model_parts.h"
#include "engine/model/transformer.h"

namespace baton {
namespace {

constexpr size_t kMaxCacheName = 64;

absl::StatusOr<KvDtype> KvDtypeOf(const ModelOptions& options) {
  if (options.kv_dtype.empty()) return options.f32 ? KvDtype::kF32 : KvDtype::kBf16;
  if (options.kv_dtype == "int8") return KvDtype::kInt8;
  return absl::InvalidArgumentError(
      absl::StrCat("kv_dtype ", options.kv_dtype, " is unknown; allowed: int8"));
}

// Refuses a model that the machine cannot hold, before the system kills the process for it.
absl::Status CheckMemory(const ModelConfig& config, const ModelShard& shard, WeightElement element,
                         const std::string& path) {
  const int64_t numbers = CountMatrixNumbers(config);
  const auto need_mib = static_cast<int64_t>(static_cast<double>(numbers >> 20) *
                                             BytesOfWeight(element) / shard.size);
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

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Model::Load(const ModelOptions& options,
                                                   const LoadProgressFn& progress) {
  RETURN_IF_ERROR(CheckBlockSize(options.block_size));
  ASSIGN_OR_RETURN(const Isa isa, SelectIsa(options.isa));
  ASSIGN_OR_RETURN(const WeightElement element, WeightElementOf(options));
  if (element == WeightElement::kFp8) {
    return absl::UnimplementedError(
        "weights of fp8 on a CPU; bf16, int8 and int4 are what there is");
  }
  ASSIGN_OR_RETURN(const KvDtype kv_dtype, KvDtypeOf(options));
  const ModelPaths paths = FindPaths(options);
  Transformer::Parts parts;
  ASSIGN_OR_RETURN(parts.config, LoadConfig(paths));
  const ModelShard& shard = options.shard;
  RETURN_IF_ERROR(CheckShard(parts.config, shard));
  RETURN_IF_ERROR(CheckMemory(parts.config, shard, element, paths.config_path));
  parts.kernels = &GetKernels(isa, options.f32);
  parts.op_times = options.op_times;
  ASSIGN_OR_RETURN(parts.pool, ComputePool::Create(options.num_threads, options.pin_cpus));
  ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> source, OpenWeights(paths, parts.config));
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
  parts.info = MakeModelInfo(options, paths, parts.config);
  parts.info.num_parameters = parts.weights.num_parameters;
  parts.info.weight_bytes = parts.weights.bytes;
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
  if (!shard.IsWhole() && shard.split == TensorSplit::kRows) {
    parts.info.fingerprint =
        HashCombine(parts.info.fingerprint, HashString(absl::StrCat("rows over ", shard.size)));
  }
  parts.layout = {.num_layers = parts.config.num_layers,
                  .num_kv_heads = HeadsOf(parts.config, shard).num_kv_heads,
                  .head_dim = parts.config.head_dim,
                  .block_size = options.block_size,
                  .dtype = kv_dtype};
  if (!shard.IsWhole()) {
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> communicator, options.connect());
    parts.ranks = std::make_unique<ShardExchange>(shard, std::move(communicator));
  }
  return std::make_unique<Transformer>(std::move(parts));
}

}  // namespace baton
