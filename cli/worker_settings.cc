#include "cli/worker_settings.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/compute_device.h"
#include "cli/engine_loader.h"
#include "common/check.h"

namespace baton {
namespace {

constexpr char kDummyPrefix[] = "dummy:";
constexpr int32_t kLeastChunkTokens = 16;
constexpr int32_t kMostChunkTokens = 1 << 20;

// Of a number as chunked_prefill, else 0.
int32_t FixedChunk(const std::string& chunked_prefill) {
  int32_t tokens = 0;
  const bool number = absl::SimpleAtoi(chunked_prefill, &tokens);
  return number && tokens >= kLeastChunkTokens && tokens <= kMostChunkTokens ? tokens : 0;
}

// See CudaModelOptions, which would refuse it only when the model is loaded.
absl::Status ValidateInvariant(const EngineSettings& settings) {
  if (settings.weights == "fp8") {
    return absl::InvalidArgumentError(
        "batch_invariant with weights: fp8, whose products are computed in another order for "
        "another number of rows; set weights: int8, int4 or auto");
  }
  return absl::OkStatus();
}

// What a GPU does not do, rather than that it is not heeded.
absl::Status ValidateDevice(const EngineSettings& settings) {
  ASSIGN_OR_RETURN(const ComputeDevice device, ParseComputeDevice(settings.device));
  if (!device.cuda) {
    if (settings.weights == "fp8") {
      return absl::InvalidArgumentError("weights: fp8 is for GPUs; device is cpu");
    }
    if (settings.kv_buffer_device == "cuda") {
      return absl::InvalidArgumentError("kv.buffer_device: cuda is for GPUs; device is cpu");
    }
    return absl::OkStatus();
  }
  const auto refuse = [&](const char* setting, const std::string& value) {
    return absl::InvalidArgumentError(
        absl::StrCat(setting, ": ", value, " is for CPUs; device is ", settings.device));
  };
  if (settings.isa != "auto") return refuse("isa", settings.isa);
  if (!settings.packed_cache.empty()) return refuse("packed_cache", settings.packed_cache);
  if (settings.tensor_parallel > 1 && settings.tensor_parallel_split == "columns") {
    return refuse("tensor_parallel_split", "columns");
  }
  return settings.batch_invariant ? ValidateInvariant(settings) : absl::OkStatus();
}

}  // namespace

void AddEngineSettings(ConfigSchema& schema, EngineSettings* settings) {
  schema.AddString("model", &settings->model,
                   "Hugging Face model directory, or dummy:CONFIG.json for random weights");
  schema.AddString("device", &settings->device,
                   "Where workers compute: cpu, cuda (the first GPU) or cuda:N, the first of as "
                   "many as tensor_parallel says. `up` takes a list, cuda:0,cuda:1, and gives its "
                   "workers one each in turns");
  schema.AddDouble("device_memory", &settings->device_memory, 0.01, 1.0,
                   "Share of a GPU's memory that a worker may use, weights included. `up` divides "
                   "the default between workers of one GPU");
  schema.AddString("served_name", &settings->served_name,
                   "Name that clients use (default: the directory's)");
  schema.AddChoice("load_format", &settings->load_format, {"auto", "dummy"},
                   "dummy: random weights, only config.json and the tokenizer are read");
  schema.AddChoice("dtype", &settings->dtype, {"bf16", "f32"}, "Weights, activations and KV");
  schema.AddChoice("weights", &settings->weights, {"auto", "int8", "int4", "fp8"},
                   "Matrices in memory: as dtype, or quantized when they are loaded (fp8: on a GPU "
                   "of compute capability 9.0)");
  schema.AddChoice("kv_dtype", &settings->kv_dtype, {"auto", "int8"},
                   "KV cache: as dtype, or half of bf16's bytes");
  schema.AddString("packed_cache", &settings->packed_cache,
                   "Directory where packed weights are kept, for quick starts (default: none)");
  schema.AddChoice("isa", &settings->isa, {"auto", "avx2", "avx512", "avx512-bf16"},
                   "CPU instructions to use");
  schema.AddInt("threads", &settings->threads, 1, 256, "Compute threads of each worker");
  schema.AddInt("tensor_parallel", &settings->tensor_parallel, 1, kMaxRanks,
                "Processes of each worker that compute the model together, each with its threads, "
                "or its GPU");
  schema.AddChoice("tensor_parallel_split", &settings->tensor_parallel_split,
                   {"auto", "columns", "rows"},
                   "How they share the projections into the residual stream: columns gives the "
                   "answers of one process, rows sends less (auto: columns; rows on GPUs)");
  schema.AddChoice("tensor_parallel_transport", &settings->tensor_parallel_transport,
                   {"shm", "gloo"},
                   "What moves activations between them: memory that they share, or Gloo over TCP "
                   "on loopback. Between GPUs NCCL does; its ranks meet by this");
  schema.AddInt("max_model_len", &settings->max_model_len, 0, 1 << 24,
                "Longest context in tokens (0: the model's own)");
  schema.AddBytes("kv.memory", &settings->kv_memory_bytes, 0, int64_t{1} << 44,
                  "Memory for the KV cache of each worker (0: 512 MiB; on a GPU what device_memory "
                  "leaves)");
  schema.AddInt("kv.blocks", &settings->kv_blocks, 0, 1 << 28,
                "KV blocks, instead of kv.memory (0: from kv.memory)");
  schema.AddInt("kv.block_size", &settings->block_size, 8, 256, "Tokens in a KV block");
  schema.AddChoice("kv.transport", &settings->kv_transport, {"auto", "shm", "tcp", "rdma"},
                   "What moves KV between workers");
  schema.AddChoice(
      "kv.buffer_device", &settings->kv_buffer_device, {"auto", "cpu", "cuda"},
      "Where KV of a GPU is sent from and received: in its own memory (cuda), for "
      "which UCX must have CUDA, and several GPUs of a worker must reach one another, or "
      "by way of the host's (cpu). auto: cuda where that is so");
  schema.AddInt("batch.max_sequences", &settings->max_batch_sequences, 1, 4096,
                "Sequences decoding in one step");
  schema.AddInt("batch.max_tokens", &settings->max_batch_tokens, 16, 1 << 20,
                "Tokens of one step, decode rows and prefill chunks together");
  schema.AddInt(
      "batch.prefill_chunk", &settings->prefill_chunk_tokens, 0, 1 << 20,
      "Prompt tokens of one request in one step, at most (0: as many as fit). With less than "
      "fit, prompts share steps: all of them take longer");
  schema.AddString(
      "chunked_prefill", &settings->chunked_prefill,
      "Prompt tokens beside decoding rows: auto (what TPOT objectives leave), off (whole "
      "prompts first), or a fixed number for all prompts of a step");
  schema.AddBool("prefix_caching", &settings->prefix_caching,
                 "Reuse the KV of equal prompt prefixes");
  schema.AddInt("prefill_credits", &settings->prefill_credits, 1, 4096,
                "Requests a worker accepts before their first token");
  schema.AddChoice("calibrate", &settings->calibrate, {"on", "off"},
                   "Measure step times before serving, to schedule by them");
  schema.AddBool("tune_products", &settings->tune_products,
                 "On a GPU, time the ways to compute each product when a worker starts. "
                 "Off: take the first that cuBLASLt suggests, the same in every process");
  schema.AddBool("warm_up", &settings->warm_up,
                 "On a GPU, capture decode steps of all sizes when a worker starts. Off: each "
                 "size in its first two steps, which take longer then");
  schema.AddBool("async_scheduling", &settings->async_scheduling,
                 "On GPUs, start a decode step before the tokens of the one before are known "
                 "to the host. Off: each step waits for them");
  schema.AddBool("batch_invariant", &settings->batch_invariant,
                 "On a GPU, compute a token alike whatever else is in its step: answers depend "
                 "neither on load nor on where they are computed, and prompts take longer. On a "
                 "CPU it is so in any case");
  schema.AddDuration("step_timeout", &settings->step_timeout, absl::ZeroDuration(), absl::Hours(1),
                     "A step that takes longer hangs: the worker ends, and its requests go on "
                     "elsewhere (0: a minute on a GPU, for ever on a CPU)");
}

absl::Status ValidateEngineSettings(const EngineSettings& settings) {
  namespace fs = std::filesystem;
  if (settings.model.empty()) {
    return absl::InvalidArgumentError(
        "no model: give --model DIR (a Hugging Face directory) or --model dummy:CONFIG.json");
  }
  const bool dummy = settings.model.starts_with(kDummyPrefix);
  const std::string path = dummy ? settings.model.substr(sizeof(kDummyPrefix) - 1) : settings.model;
  std::error_code error;
  if (!fs::exists(path, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("model: ", path, " does not exist; give --model DIR"));
  }
  if (!dummy && !fs::is_directory(path, error)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model: ", path, " is not a directory; for random weights of a config write dummy:", path));
  }
  RETURN_IF_ERROR(ValidateDevice(settings));
  return ValidateChunkedPrefill(settings.chunked_prefill);
}

absl::Status ValidateChunkedPrefill(const std::string& value) {
  if (value == "auto" || value == "off" || FixedChunk(value) > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("chunked_prefill: \"", value,
                                                 "\" must be auto, off or a number from ",
                                                 kLeastChunkTokens, " to ", kMostChunkTokens));
}

absl::Duration StepTimeoutOf(const EngineSettings& settings) {
  if (settings.step_timeout > absl::ZeroDuration()) return settings.step_timeout;
  return settings.device == "cpu" ? absl::InfiniteDuration() : absl::Minutes(1);
}

WorkerOptions ToWorkerOptions(const EngineSettings& settings) {
  WorkerOptions options;
  const absl::StatusOr<ComputeDevice> device = ParseComputeDevice(settings.device);
  BATON_CHECK(device.ok()) << device.status().ToString();  // validated
  options.load_engine = EngineLoaderOf(*device);
  options.engine.cuda_device = device->index;
  options.engine.device_memory_share = settings.device_memory;
  options.engine.tune_products = settings.tune_products;
  options.engine.warm_up = settings.warm_up;
  options.engine.async_scheduling = settings.async_scheduling;
  options.engine.batch_invariant = settings.batch_invariant;
  options.kv_transport = settings.kv_transport;
  options.kv_buffer_device = settings.kv_buffer_device;
  options.prefill_credits = settings.prefill_credits;
  options.calibrate = settings.calibrate == "on";
  ModelOptions& model = options.engine.model;
  model.path = settings.model;
  model.dummy_weights = settings.load_format == "dummy";
  model.served_name = settings.served_name;
  model.num_threads = settings.threads;
  model.block_size = settings.block_size;
  model.f32 = settings.dtype == "f32";
  model.weights = settings.weights == "auto" ? "" : settings.weights;
  model.kv_dtype = settings.kv_dtype == "auto" ? "" : settings.kv_dtype;
  model.packed_cache = settings.packed_cache;
  model.isa = settings.isa == "auto" ? "" : settings.isa;
  model.shard.size = settings.tensor_parallel;
  const bool by_rows = settings.tensor_parallel_split == "rows" ||
                       (settings.tensor_parallel_split == "auto" && device->cuda);
  model.shard.split = by_rows ? TensorSplit::kRows : TensorSplit::kColumns;
  options.engine.num_blocks = settings.kv_blocks;
  const bool sized = settings.kv_memory_bytes > 0 || device->cuda;
  options.engine.kv_memory_bytes = sized ? settings.kv_memory_bytes : kCpuKvBytes;
  SchedulerOptions& scheduler = options.engine.scheduler;
  scheduler.max_model_len = settings.max_model_len;
  scheduler.max_batch_sequences = settings.max_batch_sequences;
  scheduler.max_batch_tokens = std::max(settings.max_batch_tokens, settings.max_batch_sequences);
  scheduler.prefill_chunk_tokens = settings.prefill_chunk_tokens > 0 ? settings.prefill_chunk_tokens
                                                                     : scheduler.max_batch_tokens;
  if (const int32_t chunk = FixedChunk(settings.chunked_prefill); chunk > 0) {
    scheduler.chunking = Chunking::kFixed;
    scheduler.prefill_chunk_tokens = chunk;
    scheduler.max_batch_tokens = std::max(scheduler.max_batch_tokens, chunk);
  } else if (settings.chunked_prefill == "off") {
    scheduler.chunking = Chunking::kOff;
  }
  scheduler.prefix_caching = settings.prefix_caching;
  return options;
}

void AddPlacementSettings(ConfigSchema& schema, PlacementFlags* flags) {
  schema.AddString("cpus", &flags->cpus,
                   "CPUs to pin the compute threads to, one each, as 0-3,8 (default: not "
                   "pinned). Sets threads where that is not given");
  schema.AddInt("numa_node", &flags->numa_node, -1, kMaxNumaNode,
                "NUMA node whose CPUs and memory the worker keeps to (-1: any)");
}

absl::StatusOr<Placement> ResolvePlacementOf(const PlacementFlags& flags, int32_t threads,
                                             bool threads_set) {
  MachineCpus machine;
  if (!flags.cpus.empty() || flags.numa_node >= 0) {
    ASSIGN_OR_RETURN(machine, ReadMachineCpus());
  }
  return ResolvePlacement({.cpus = flags.cpus,
                           .numa_node = flags.numa_node,
                           .threads = threads,
                           .threads_set = threads_set},
                          machine);
}

std::vector<std::string> FlagsForChild(const ConfigSchema& schema, const ConfigSchema& wanted) {
  std::vector<std::string> flags;
  for (const ConfigEntry& entry : schema.entries()) {
    const bool known =
        std::any_of(wanted.entries().begin(), wanted.entries().end(),
                    [&](const ConfigEntry& other) { return other.key == entry.key; });
    if (known && entry.source != "default") {
      flags.push_back(absl::StrCat(entry.FlagName(), "=", entry.show()));
    }
  }
  return flags;
}

}  // namespace baton
