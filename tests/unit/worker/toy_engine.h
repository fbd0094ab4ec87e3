// An Engine without a model: the real scheduler, and KV and tokens that are functions of the tokens
// before them. It checks that each row attends to the KV of its own tokens, so a wrong byte in a
// handoff breaks the engine.
#pragma once

#include <functional>
#include <memory>

#include "engine/runtime/engine.h"
#include "sim/toy_model.h"

namespace baton {

struct ToyEngineOptions {
  int32_t num_blocks = 64;
  int32_t num_layers = 3;
  int32_t max_model_len = 256;
  SchedulerOptions scheduler;  // batch limits; the rest is filled in
  uint64_t fingerprint = 0xbadc0de;
  StepModel step_model;  // what a calibration gives; not known: it fails
  // Called at the start of each step and after each layer: tests hold or break a step there.
  std::function<absl::Status()> on_step;
  std::function<void(int32_t layer)> on_layer;
  std::function<absl::Status()> health;  // of its device; null: well
  bool on_device = false;                // steps as an engine on a device does
};

using sim::kToyBlockSize;
using sim::kToyEos;
using sim::kToyVocab;

std::unique_ptr<Engine> MakeToyEngine(const ToyEngineOptions& options);

using sim::ToyAnswer;  // what it answers to a spec, computed alone

}  // namespace baton
