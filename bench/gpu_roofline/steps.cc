#include <algorithm>
#include <memory>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "bench/gpu_roofline/parts.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/request.h"
#include "engine/kernels/cuda/sampler.h"
#include "engine/model/cuda/cuda_kv_cache.h"
#include "engine/model/cuda/cuda_model.h"

namespace baton::roofline {
namespace {

constexpr int32_t kBlockSize = 16;
// A decode step runs, is captured as a graph, and is started as one.
constexpr int32_t kWarmUps = 3;

struct StepSamples {
  std::vector<double> device_ms;  // until the logits are there
  std::vector<double> whole_ms;   // of the caller, until it has a token of each
  std::vector<double> host_ms;    // of the caller, until all but the draws is enqueued
};

std::vector<TokenId> Tokens(int32_t count, int32_t vocab) {
  std::vector<TokenId> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<TokenId>(i * 7919 % static_cast<size_t>(vocab));
  }
  return tokens;
}

// A loaded model, a cache for the largest of the shapes, and draws at temperature 1.
struct Loaded {
  CudaStepTimes times;
  std::unique_ptr<CudaModel> model;
  std::unique_ptr<CudaKvCache> cache;
  std::optional<CudaSampler> sampler;

  absl::Status StartDraws(const float* logits, int32_t rows) {
    const StoppingParams stopping;
    sampler->Clear();
    for (int32_t row = 0; row < rows; ++row) {
      const SamplingParams sampling{.seed = static_cast<uint64_t>(row)};
      RETURN_IF_ERROR(sampler->Add(row, {.sampling = sampling, .stopping = stopping}));
    }
    return sampler->Start(logits);
  }
  absl::Status WaitForTokens() const {
    RETURN_IF_ERROR(model->context().Synchronize());
    for (int32_t row = 0; row < sampler->num_rows(); ++row) {
      RETURN_IF_ERROR(sampler->Take(row).status());
    }
    return absl::OkStatus();
  }
};

int32_t BlocksOfSequence(const StepShape& shape) {
  return BlocksForTokens(shape.context + shape.tokens, kBlockSize);
}

absl::Status Load(const Sizes& sizes, StepWay way, Loaded* loaded) {
  int32_t blocks = 0;
  CudaModelOptions cuda{.max_batch_tokens = 1,
                        .max_sequences = 1,
                        .tune_products = sizes.tunes_steps,
                        .use_graphs = way != StepWay::kNoGraphs,
                        .prefers_wgmma = way == StepWay::kWgmma,  // whatever is the default
                        .dependent_launch = way == StepWay::kDependent,
                        .logits_stay = true,
                        .step_times = &loaded->times};
  for (const StepShape& shape : sizes.steps) {
    blocks = std::max(blocks, shape.sequences * BlocksOfSequence(shape));
    cuda.max_sequences = std::max(cuda.max_sequences, shape.sequences);
    cuda.max_batch_tokens =
        std::max({cuda.max_batch_tokens, shape.sequences * shape.tokens, shape.context});
  }
  ModelOptions options{.path = absl::StrCat("dummy:", sizes.config_path)};
  options.num_threads =
      static_cast<int32_t>(std::clamp(std::thread::hardware_concurrency(), 1u, 16u));
  options.block_size = kBlockSize;
  ASSIGN_OR_RETURN(loaded->model, LoadCudaModel(options, cuda, nullptr));
  ASSIGN_OR_RETURN(loaded->sampler,
                   CudaSampler::Create(loaded->model->context(), cuda.max_sequences,
                                       loaded->model->info().vocab_size));
  loaded->model->UseLogits(
      [loaded](const float* logits, int32_t rows) { return loaded->StartDraws(logits, rows); });
  ASSIGN_OR_RETURN(loaded->cache,
                   CudaKvCache::Create(cuda.device, loaded->model->kv_layout(), blocks));
  return absl::OkStatus();
}

std::vector<std::vector<BlockId>> MakeTables(const StepShape& shape) {
  std::vector<std::vector<BlockId>> tables(static_cast<size_t>(shape.sequences));
  int32_t next = 0;
  for (std::vector<BlockId>& table : tables) {
    for (int32_t i = 0; i < BlocksOfSequence(shape); ++i) table.emplace_back(next++);
  }
  return tables;
}

// Computes the first sequence's context, and copies it to the others.
absl::Status FillContext(const StepShape& shape, const std::vector<std::vector<BlockId>>& tables,
                         Loaded* loaded) {
  if (shape.context == 0) return absl::OkStatus();
  const std::vector<TokenId> tokens = Tokens(shape.context, loaded->model->info().vocab_size);
  const ForwardSequence first{
      .tokens = tokens, .block_table = tables.front(), .first_logit_token = shape.context};
  Logits none;
  const KvRegion& kv = loaded->cache->region();
  RETURN_IF_ERROR(loaded->model->Forward({&first, 1}, kv, nullptr, &none));
  std::vector<KvBlockCopy> copies;
  for (size_t s = 1; s < tables.size(); ++s) {
    for (size_t b = 0; b < tables[s].size(); ++b) copies.push_back({tables[0][b], tables[s][b]});
  }
  return loaded->model->CopyBlocks(copies, kv);
}

absl::StatusOr<StepSamples> TimeStep(const Sizes& sizes, const StepShape& shape, Loaded* loaded) {
  const std::vector<std::vector<BlockId>> tables = MakeTables(shape);
  RETURN_IF_ERROR(FillContext(shape, tables, loaded));
  const std::vector<TokenId> tokens = Tokens(shape.tokens, loaded->model->info().vocab_size);
  std::vector<ForwardSequence> batch;
  for (const std::vector<BlockId>& table : tables) {
    batch.push_back({.tokens = tokens,
                     .start_position = shape.context,
                     .block_table = table,
                     .first_logit_token = shape.tokens - 1});
  }
  const MonotonicClock clock;
  Logits logits;
  StepSamples samples;
  for (int32_t run = 0; run < kWarmUps + sizes.repeats; ++run) {
    const absl::Time begin = clock.Now();
    RETURN_IF_ERROR(loaded->model->Forward(batch, loaded->cache->region(), nullptr, &logits));
    RETURN_IF_ERROR(loaded->WaitForTokens());
    const double whole_ms = absl::ToDoubleMilliseconds(clock.Now() - begin);
    if (run < kWarmUps) continue;
    samples.whole_ms.push_back(whole_ms);
    samples.device_ms.push_back(loaded->times.device_ms);
    samples.host_ms.push_back(loaded->times.host_ms);
  }
  return samples;
}

bool CanMeasure(const CudaDeviceInfo& device, const Sizes& sizes, StepWay way) {
  if (way == StepWay::kWgmma) return HasWgmmaAttention(device, sizes.decoder.head_dim);
  if (way != StepWay::kDependent) return true;
  return device.compute_capability >= CudaContext::kDependentComputeCapability;
}

const char* SuffixOf(StepWay way) {
  return way == StepWay::kNoGraphs    ? ", no graphs"
         : way == StepWay::kDependent ? ", dependent launches"
                                      : "";
}

absl::StatusOr<std::vector<double>> Only(const absl::StatusOr<StepSamples>& samples,
                                         std::vector<double> StepSamples::*which) {
  if (!samples.ok()) return samples.status();
  return (*samples).*which;
}

}  // namespace

absl::Status MeasureSteps(const CudaContext& context, const Sizes& sizes, StepWay way,
                          Recorder* recorder) {
  if (!CanMeasure(context.info(), sizes, way)) return absl::OkStatus();
  Loaded loaded;
  const char* suffix = SuffixOf(way);
  const char* variant = way == StepWay::kWgmma ? "wgmma" : "";  // of prompts
  const MonotonicClock clock;
  const absl::Time begin = clock.Now();
  RETURN_IF_ERROR(Load(sizes, way, &loaded));
  const char* tuning = sizes.tunes_steps ? ", tuning" : "";
  if (way != StepWay::kWgmma) {
    recorder->Add({.name = absl::StrCat("start: dummy weights", tuning, ", scratch, KV", suffix)},
                  std::vector<double>{absl::ToDoubleMilliseconds(clock.Now() - begin)});
  }
  for (const StepShape& shape : sizes.steps) {
    const bool decodes = shape.tokens == 1;
    const bool of_decode = way == StepWay::kNoGraphs || way == StepWay::kDependent;
    if (decodes ? way == StepWay::kWgmma : of_decode) continue;  // of the other kind alone
    const absl::StatusOr<StepSamples> samples = TimeStep(sizes, shape, &loaded);
    Row row{.name = absl::StrCat(shape.name, suffix),
            .work = Count(sizes.decoder, StepWork{.sequences = double{1} * shape.sequences,
                                                  .context = double{1} * shape.context,
                                                  .tokens = double{1} * shape.tokens}),
            .target_ms = of_decode ? 0 : shape.target_ms,
            .variant = variant};
    const std::string name = row.name;
    recorder->Add(row, Only(samples, &StepSamples::device_ms));
    // As the step loop sees it.
    row.name = absl::StrCat(name, ": until tokens are drawn");
    recorder->Add(row, Only(samples, &StepSamples::whole_ms));
    if (way == StepWay::kWgmma) continue;  // the host does the same
    recorder->Add({.name = absl::StrCat(name, ": the host's part")},
                  Only(samples, &StepSamples::host_ms));
  }
  return absl::OkStatus();
}

}  // namespace baton::roofline
