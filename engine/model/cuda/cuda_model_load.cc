#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/check.h"
#include "common/hash.h"
#include "engine/kernels/compute_pool.h"
#include "engine/kernels/cuda/invariant_linear.h"
#include "engine/model/cuda/cuda_model.h"
#include "engine/model/cuda/cuda_transformer.h"
#include "engine/model/cuda/ordered_communicator.h"
#include "engine/model/model_parts.h"

namespace baton {
namespace {

constexpr int32_t kSizeStep = 8;  // of CudaMatrix
constexpr int32_t kFp8SizeStep = 16;
constexpr int32_t kMaxSequences = 65535;  // a launch has no more thread blocks in a dimension
// NCCL's sum of two ranks is one addition of each number, the same in any order; of more, the order
// may depend on the length of a message, and so on the rows of a step.
constexpr int32_t kMaxRanksOfOneOrder = 2;
// Query rows (token, head) of one KV head that decode attention takes together: see attention.h.
constexpr int32_t kDecodeQueries = 16;

absl::Status CheckOptions(const ModelOptions& options) {
  if (options.f32) return absl::UnimplementedError("f32 on CUDA; bf16 is what there is");
  if (!options.kv_dtype.empty()) {
    return absl::UnimplementedError(
        absl::StrCat("a KV cache of ", options.kv_dtype, " on CUDA; bf16 is what there is"));
  }
  if (!options.shard.IsWhole() && options.shard.split != TensorSplit::kRows) {
    return absl::UnimplementedError(absl::StrCat("a model over ", options.shard.size,
                                                 " processes by columns on CUDA; by rows is what "
                                                 "there is"));
  }
  return CheckBlockSize(options.block_size);
}

absl::Status CheckInvariant(WeightElement element) {
  if (element == WeightElement::kFp8) {
    return absl::InvalidArgumentError(
        "batch_invariant with weights of fp8: cuBLASLt alone has their products, in another order "
        "for another number of rows; take int8, int4 or bf16");
  }
  return absl::OkStatus();
}

absl::Status CheckLimits(const CudaModelOptions& cuda) {
  const auto check = [](const char* name, int32_t value, int32_t least, int32_t most) {
    if (value >= least && value <= most) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is ", value, "; allowed: ", least, " to ", most));
  };
  constexpr int32_t kMost = 1 << 24;
  RETURN_IF_ERROR(check("max_batch_tokens", cuda.max_batch_tokens, 1, kMost));
  RETURN_IF_ERROR(check("max_sequences", cuda.max_sequences, 1, kMaxSequences));
  RETURN_IF_ERROR(check("max_logit_rows", cuda.max_logit_rows, 0, kMost));
  return check("max_positions", cuda.max_positions, 0, kMost);
}

// Those that a product has as n or k.
absl::Status CheckSizes(const ModelConfig& config, WeightElement element, const ModelShard& shard,
                        const std::string& path) {
  const int32_t step = element == WeightElement::kFp8 ? kFp8SizeStep : kSizeStep;
  const std::pair<const char*, int32_t> sizes[] = {
      {"hidden_size", config.hidden_size},
      {"intermediate_size", config.intermediate_size},
      {"vocab_size", config.vocab_size},
      {"head_dim", config.head_dim},
  };
  const int32_t vocab_step = kSizeStep * shard.size;  // ranks have as much of it
  if (config.vocab_size % kSizeStep == 0 && config.vocab_size % vocab_step != 0) {
    return absl::UnimplementedError(absl::StrCat(path, ": vocab_size is ", config.vocab_size,
                                                 "; on CUDA multiples of ", vocab_step,
                                                 " are what there is for ", shard.size, " ranks"));
  }
  for (const auto& [name, size] : sizes) {
    if (size % step == 0) continue;
    return absl::UnimplementedError(absl::StrCat(
        path, ": ", name, " is ", size, "; on CUDA multiples of ", step, " are what there is"));
  }
  return absl::OkStatus();
}

absl::Status CheckDevice(WeightElement element, const CudaDeviceInfo& device) {
  if (element != WeightElement::kFp8 || device.compute_capability == kFp8ComputeCapability) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(absl::StrCat(
      "weights of fp8 on ", device.name, ", compute capability ", device.compute_capability,
      "; cuBLASLt takes scales for rows and outputs on ", kFp8ComputeCapability));
}

// Before minutes are spent on reading.
absl::Status CheckMemory(const ModelConfig& config, WeightElement element, const ModelShard& shard,
                         const CudaDeviceInfo& device, const std::string& path) {
  const auto need_mib = static_cast<int64_t>(static_cast<double>(CountMatrixNumbers(config) >> 20) *
                                             BytesOfWeight(element)) /
                        shard.size;
  const int64_t free_mib = device.free_bytes >> 20;
  if (need_mib <= free_mib) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      path, ": the weights take ", need_mib, " MiB; of the ", device.memory_bytes >> 20, " MiB of ",
      device.name, " ", free_mib, " MiB are free"));
}

// `config`: with the heads of the shard.
CudaStepLimits LimitsOf(const CudaModelOptions& cuda, const ModelConfig& config,
                        int32_t block_size) {
  const auto or_else = [](int32_t value, int32_t otherwise) {
    return value != 0 ? value : otherwise;
  };
  return {.max_rows = cuda.max_batch_tokens,
          .max_logit_rows =
              std::min(or_else(cuda.max_logit_rows, cuda.max_sequences), cuda.max_batch_tokens),
          .max_sequences = cuda.max_sequences,
          .max_positions =
              std::min(or_else(cuda.max_positions, config.max_positions), config.max_positions),
          .block_size = block_size,
          .decode_rows = std::max(1, kDecodeQueries * config.num_kv_heads / config.num_heads)};
}

absl::Status LoadInto(const ModelOptions& options, const ModelPaths& paths, WeightElement element,
                      const LoadProgressFn& progress, CudaTransformer::Parts* parts) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ComputePool> pool,
                   ComputePool::Create(options.num_threads, options.pin_cpus));
  ASSIGN_OR_RETURN(const std::unique_ptr<WeightSource> source, OpenWeights(paths, parts->config));
  ASSIGN_OR_RETURN(const std::unique_ptr<CudaWeightReader> reader,
                   CudaWeightReader::Create(*parts->context, source.get(), pool.get(), element));
  WeightLoader<DeviceArray<float>, CudaMatrix> loader(parts->config, parts->shard, reader.get(),
                                                      progress);
  ASSIGN_OR_RETURN(parts->weights, loader.Load());
  parts->weights.fingerprint = source->Fingerprint(pool.get());
  return absl::OkStatus();
}

// All ranks have parts of one model, and where products are batch-invariant add in one order.
absl::Status CheckAlike(Communicator& ranks, uint64_t fingerprint) {
  std::vector<uint64_t> all(static_cast<size_t>(ranks.size()));
  RETURN_IF_ERROR(ranks.AllGather(std::as_bytes(std::span(&fingerprint, 1)),
                                  std::as_writable_bytes(std::span(all))));
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    return absl::FailedPreconditionError(absl::StrFormat(
        "rank 0 has model %016x, rank %d %016x: other files or settings, or with batch_invariant "
        "another kind of GPU",
        all[0], rank, all[rank]));
  }
  return absl::OkStatus();
}

absl::Status JoinRanks(const ModelOptions& options, const CudaModelOptions& cuda,
                       CudaTransformer::Parts* parts) {
  if (parts->shard.IsWhole()) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> ranks, options.connect());
  RETURN_IF_ERROR(CheckAlike(*ranks, parts->info.fingerprint));
  ASSIGN_OR_RETURN(parts->ranks, cuda.connect(*parts->context, std::move(ranks)));
  if (cuda.batch_invariant && parts->shard.size > kMaxRanksOfOneOrder) {
    const auto numbers = static_cast<size_t>(parts->limits.max_rows) *
                         static_cast<size_t>(parts->config.hidden_size);  // of the largest step
    ASSIGN_OR_RETURN(parts->ranks, OrderedCommunicator::Create(
                                       std::move(parts->ranks), parts->shard.size,
                                       std::min(numbers, OrderedCommunicator::kMaxPiece)));
  }
  return absl::OkStatus();
}

// Other tokens may come out than of the same weights on a CPU, which rounds activations to int8
// where weights are quantized, and than of others: such a worker may not go on with their KV. Where
// an answer's bits are promised, whatever changes them makes another model.
uint64_t FingerprintOf(const CudaTransformer::Parts& parts, const std::string& weights) {
  const uint64_t model =
      HashCombine(HashString(parts.config.Canonical()), parts.weights.fingerprint);
  uint64_t on_cuda = HashCombine(model, HashString("cuda"));
  if (!weights.empty()) on_cuda = HashCombine(on_cuda, HashString(weights));
  if (!parts.batch_invariant) return on_cuda;
  return HashCombine(
      on_cuda,
      HashString(absl::StrCat("batch-invariant ", kInvariantOrder, ", ranks ", parts.shard.size,
                              ", compute capability ", parts.context->info().compute_capability)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaModel>> LoadCudaModel(const ModelOptions& options,
                                                         const CudaModelOptions& cuda,
                                                         const LoadProgressFn& progress) {
  RETURN_IF_ERROR(CheckOptions(options));
  RETURN_IF_ERROR(CheckLimits(cuda));
  ASSIGN_OR_RETURN(const WeightElement element, WeightElementOf(options));
  if (cuda.batch_invariant) RETURN_IF_ERROR(CheckInvariant(element));
  const ModelPaths paths = FindPaths(options);
  CudaTransformer::Parts parts;
  ASSIGN_OR_RETURN(parts.config, LoadConfig(paths));
  parts.shard = options.shard;
  RETURN_IF_ERROR(CheckShard(parts.config, parts.shard));
  RETURN_IF_ERROR(CheckSizes(parts.config, element, parts.shard, paths.config_path));
  if (!options.shard.IsWhole() && (!options.connect || !cuda.connect)) {
    return absl::InvalidArgumentError("a shard without the ways to join its ranks");
  }
  parts.layout = {.num_layers = parts.config.num_layers,
                  .num_kv_heads = HeadsOf(parts.config, parts.shard).num_kv_heads,
                  .head_dim = parts.config.head_dim,
                  .block_size = options.block_size,
                  .dtype = KvDtype::kBf16};
  ASSIGN_OR_RETURN(parts.context, CudaContext::Create(cuda.device));
  RETURN_IF_ERROR(CheckDevice(element, parts.context->info()));
  RETURN_IF_ERROR(CheckCudaAttention(parts.context->info(), parts.layout));
  RETURN_IF_ERROR(
      CheckMemory(parts.config, element, parts.shard, parts.context->info(), paths.config_path));
  parts.limits = LimitsOf(cuda, HeadsOf(parts.config, parts.shard), options.block_size);
  parts.attention_scratch_bytes = cuda.attention_scratch_bytes;
  parts.batch_invariant = cuda.batch_invariant;
  parts.tune_products = cuda.tune_products && !cuda.batch_invariant;
  parts.use_graphs = cuda.use_graphs;
  parts.prefers_wgmma = cuda.prefers_wgmma && !cuda.batch_invariant;
  parts.dependent_launch = cuda.dependent_launch;
  parts.logits_stay = cuda.logits_stay;
  parts.step_times = cuda.step_times;
  RETURN_IF_ERROR(LoadInto(options, paths, element, progress, &parts));
  parts.info = MakeModelInfo(options, paths, parts.config);
  parts.info.num_parameters = parts.weights.num_parameters;
  parts.info.weight_bytes = parts.weights.bytes;
  parts.info.weight_dtype = options.weights.empty() ? "bf16" : options.weights;
  const CudaDeviceInfo& device = parts.context->info();
  const bool wgmma = parts.prefers_wgmma && HasWgmmaAttention(device, parts.config.head_dim);
  parts.info.kernels = absl::StrCat("cuda sm_", device.compute_capability, wgmma ? " wgmma" : "",
                                    cuda.batch_invariant ? " batch-invariant" : "");
  parts.info.fingerprint = FingerprintOf(parts, options.weights);
  RETURN_IF_ERROR(JoinRanks(options, cuda, &parts));
  return CudaTransformer::Create(std::move(parts));
}

}  // namespace baton
