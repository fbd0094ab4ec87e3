// The settings of a worker that `baton worker` and `baton up` have in common.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/config.h"
#include "worker/placement.h"
#include "worker/worker_process.h"

namespace baton {

// What an operator says of the model and the engine; the same for every worker of a cluster.
struct EngineSettings {
  std::string model;                 // directory or dummy:CONFIG.json
  std::string device = "cpu";        // see ParseComputeDevice
  double device_memory = 0.9;        // share of a GPU's memory
  std::string served_name;           // empty: from the directory
  std::string load_format = "auto";  // "auto", "dummy"
  std::string dtype = "bf16";
  std::string weights = "auto";
  std::string kv_dtype = "auto";
  std::string packed_cache;  // empty: none
  std::string isa = "auto";
  int32_t threads = 1;
  int32_t tensor_parallel = 1;
  std::string tensor_parallel_split = "auto";  // "auto", "columns", "rows"
  std::string tensor_parallel_transport = "shm";
  int32_t max_model_len = 0;    // 0: the model's own
  int64_t kv_memory_bytes = 0;  // 0: kCpuKvBytes, or what device_memory leaves of a GPU
  int32_t kv_blocks = 0;        // 0: from kv_memory_bytes
  int32_t block_size = 16;
  std::string kv_transport = "auto";
  std::string kv_buffer_device = "auto";
  int32_t max_batch_sequences = 64;
  int32_t max_batch_tokens = 512;
  int32_t prefill_chunk_tokens = 0;      // 0: as many as a step takes
  std::string chunked_prefill = "auto";  // "auto", "off" or tokens
  bool prefix_caching = true;
  int32_t prefill_credits = 8;
  std::string calibrate = "on";
  bool tune_products = true;
  bool warm_up = true;
  bool async_scheduling = true;
  bool batch_invariant = false;  // on a CPU it is so in any case
  absl::Duration step_timeout;   // 0: a minute on a GPU, for ever on a CPU
};

inline constexpr int32_t kMaxRanks = 64;
inline constexpr int64_t kCpuKvBytes = int64_t{512} << 20;

void AddEngineSettings(ConfigSchema& schema, EngineSettings* settings);
// The model is given and there, and everything fits the device.
absl::Status ValidateEngineSettings(const EngineSettings& settings);
absl::Status ValidateChunkedPrefill(const std::string& value);
absl::Duration StepTimeoutOf(const EngineSettings& settings);
WorkerOptions ToWorkerOptions(const EngineSettings& settings);

// Where the threads of one process go.
struct PlacementFlags {
  std::string cpus;
  int32_t numa_node = -1;
};
void AddPlacementSettings(ConfigSchema& schema, PlacementFlags* flags);
// See ResolvePlacement; looks at the machine only where something is to be placed.
absl::StatusOr<Placement> ResolvePlacementOf(const PlacementFlags& flags, int32_t threads,
                                             bool threads_set);

// The settings in `schema` that were not left at their default, as flags for a child process. Only
// keys that `wanted` has as well.
std::vector<std::string> FlagsForChild(const ConfigSchema& schema, const ConfigSchema& wanted);

}  // namespace baton
