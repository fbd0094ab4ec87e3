// What a worker found and chose when it started, as data and as text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/step_model.h"
#include "engine/model/model.h"
#include "worker/load_meter.h"

namespace baton {

// Rows of (name, value) in the order shown. Plain data; copyable.
struct StartupTable {
  std::string title;  // "prefill-0 (prefill)"
  std::vector<std::pair<std::string, std::string>> rows;
};

// What the rows of a worker's table are made of.
struct StartupFacts {
  std::string worker_id;
  std::string_view role;
  ModelInfo model;
  LoadPoint load;  // nothing done: not told
  KvLayout kv_layout;
  int32_t kv_copies = 1;  // of each head
  int32_t num_blocks = 0;
  int32_t max_batch_sequences = 0;
  int32_t num_threads = 0;  // of each process
  std::string processes;    // of the worker; empty: one
  std::string placement;    // of threads and memory; empty: not told
  StepModel step_model;     // not known: not calibrated
  std::string transport;  // as configured, with what it may use: "auto (shm in one host, else tcp)"
  int32_t control_port = 0;
  int32_t admin_port = 0;
};

// model, dtype, weights GiB, KV blocks, maximum concurrency (whole contexts that fit the pool at
// once), kernels, transport, addresses.
StartupTable MakeStartupTable(const StartupFacts& facts);

// Two aligned columns under the title, one line each, ending with a newline.
std::string RenderStartupTable(const StartupTable& table);

}  // namespace baton
