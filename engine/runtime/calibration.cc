#include "engine/runtime/calibration.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/request.h"

namespace baton {
namespace {

constexpr int32_t kSmallPrompt = 16;
constexpr int32_t kMidPrompt = 32;
constexpr int32_t kShortContext = 32;
constexpr int32_t kLongContext = 1024;
constexpr size_t kRepeats = 3;
// Of the KV of all rows of a step.
constexpr int32_t kMostContext = 8192;
// A point is repeated while it has taken less than this part of the budget.
constexpr double kRepeatShare = 0.005;
constexpr double kRequiredShare = 0.03;

// For the order only.
double Work(const CalibrationPoint& point) {
  const StepShape shape = point.Shape();
  return static_cast<double>(shape.prefill_tokens) + shape.prefill_pairs / 2000 +
         static_cast<double>(shape.decode_rows) * 4 +
         static_cast<double>(shape.decode_context) / 500;
}

class GridMaker {
 public:
  explicit GridMaker(const CalibrationLimits& limits) : limits_(limits) {}

  std::vector<CalibrationPoint> Make() {
    Prefill();
    Decode();
    std::ranges::stable_sort(grid_, {}, [](const CalibrationPoint& point) {
      return std::pair(!point.required, Work(point));
    });
    return std::move(grid_);
  }

 private:
  void Prefill() {
    const int32_t longest =
        std::min(limits_.max_batch_tokens,
                 static_cast<int32_t>(std::min<int64_t>(limits_.max_model_len - 1, TokensEach(1))));
    const int32_t mid = std::min(kMidPrompt, longest);
    const int32_t small = std::min(kSmallPrompt, mid / 2);
    Add({.tokens = small, .required = true});
    Add({.tokens = mid, .required = true});
    const int32_t context = LongContext(1, mid);
    Add({.tokens = mid, .context = context, .required = true});
    Add({.tokens = small, .context = context});
    for (int32_t tokens = 4 * mid; tokens < longest; tokens *= 4) Add({.tokens = tokens});
    if (longest > mid) Add({.tokens = longest});
    if (longest >= 4 * mid) Add({.tokens = 4 * mid, .context = LongContext(1, 4 * mid)});
  }

  void Decode() {
    const int32_t short_context = std::min(kShortContext, limits_.max_model_len / 4);
    // Even where only one row is served: two tell what a row costs.
    const int32_t few = std::clamp(limits_.max_batch_sequences, 2, 4);
    const int32_t most = std::max(limits_.max_batch_sequences, few);
    const auto row_set = [&](int32_t rows, int32_t context, bool required) {
      Add({.rows = rows, .tokens = 1, .context = context, .decodes = true, .required = required});
    };
    row_set(1, short_context, true);
    row_set(few, short_context, true);
    row_set(few, LongContext(few, 1), true);
    row_set(1, LongContext(1, 1), false);
    for (int32_t rows = 4 * few; rows < 4 * most; rows *= 4) {
      rows = std::min(rows, most);
      row_set(rows, short_context, false);
      row_set(rows, LongContext(rows, 1), false);
    }
  }

  // Whole blocks for each of `rows`.
  int64_t TokensEach(int32_t rows) const {
    return int64_t{limits_.num_blocks / rows} * limits_.block_size;
  }

  int32_t LongContext(int32_t rows, int32_t tokens) const {
    const int64_t room = std::min<int64_t>(TokensEach(rows), kMostContext / rows) - tokens;
    return static_cast<int32_t>(
        std::min<int64_t>({kLongContext, limits_.max_model_len - tokens - 1, room}));
  }

  void Add(const CalibrationPoint& point) {
    const int64_t each = int64_t{point.context} + point.tokens;
    if (point.tokens < 1 || point.context < 0 || each >= limits_.max_model_len ||
        each > TokensEach(point.rows)) {
      return;
    }
    grid_.push_back(point);
  }

  const CalibrationLimits limits_;
  std::vector<CalibrationPoint> grid_;
};

int32_t BlocksEach(const CalibrationPoint& point, int32_t block_size) {
  return BlocksForTokens(point.context + point.tokens, block_size);
}

}  // namespace

StepShape CalibrationPoint::Shape() const {
  if (decodes) return {.decode_rows = rows, .decode_context = int64_t{rows} * (context + 1)};
  return StepShape::Prefill(tokens, context);
}

std::vector<CalibrationPoint> CalibrationGrid(const CalibrationLimits& limits) {
  std::vector<CalibrationPoint> grid = GridMaker(limits).Make();
  constexpr auto kRequired = 6;
  const bool complete = std::ranges::count(grid, true, &CalibrationPoint::required) == kRequired;
  return complete ? grid : std::vector<CalibrationPoint>();
}

absl::StatusOr<StepModel> Calibrate(
    const std::vector<CalibrationPoint>& grid, absl::Duration budget, const Clock& clock,
    const std::function<absl::Status(const CalibrationPoint&)>& run) {
  const absl::Time begin = clock.Now();
  // The first pass touches memory for the first time.
  if (!grid.empty()) RETURN_IF_ERROR(run(grid.front()));
  std::vector<StepSample> samples;
  StepModel model;
  for (const CalibrationPoint& point : grid) {
    const StepShape shape = point.Shape();
    if (!point.required) {
      ASSIGN_OR_RETURN(model, FitStepModel(samples));
      const absl::Duration expected = absl::Milliseconds(model.PredictMs(shape));
      if (clock.Now() + expected > begin + budget) continue;
    }
    std::vector<double> ms;
    const absl::Time point_begin = clock.Now();
    do {
      const absl::Time start = clock.Now();
      RETURN_IF_ERROR(run(point));
      ms.push_back(absl::ToDoubleMilliseconds(clock.Now() - start));
    } while (ms.size() < kRepeats &&
             clock.Now() - point_begin < (point.required ? kRequiredShare : kRepeatShare) * budget);
    samples.push_back({shape, std::ranges::min(ms)});
  }
  return FitStepModel(samples);
}

void TouchCalibrationBlocks(const std::vector<CalibrationPoint>& grid, const KvRegion& kv) {
  int32_t blocks = 0;
  for (const CalibrationPoint& point : grid) {
    blocks = std::max(blocks, point.rows * BlocksEach(point, kv.layout.block_size));
  }
  const auto bytes = static_cast<size_t>(kv.layout.BlockBytes());
  for (int32_t layer = 0; layer < kv.layout.num_layers; ++layer) {
    for (int32_t block = 0; block < std::min(blocks, kv.num_blocks); ++block) {
      std::memset(kv.Block(layer, BlockId(block)), 0, bytes);
    }
  }
}

absl::Status RunCalibrationPoint(const CalibrationPoint& point, const KvRegion& kv, Model* model,
                                 StepSampler* sampler, Logits* logits) {
  const int32_t vocab_size = model->info().vocab_size;
  std::vector<TokenId> tokens;
  tokens.reserve(static_cast<size_t>(point.tokens));
  for (int32_t i = 0; i < point.tokens; ++i) tokens.push_back(i % vocab_size);
  const int32_t blocks_each = BlocksEach(point, kv.layout.block_size);
  if (int64_t{blocks_each} * point.rows > kv.num_blocks) {
    return absl::InvalidArgumentError(absl::StrCat(point.rows, " rows of ", blocks_each,
                                                   " KV blocks, the pool has ", kv.num_blocks));
  }
  std::vector<BlockId> blocks;
  blocks.reserve(static_cast<size_t>(blocks_each) * static_cast<size_t>(point.rows));
  for (int32_t i = 0; i < blocks_each * point.rows; ++i) blocks.emplace_back(i);
  std::vector<ForwardSequence> batch;
  batch.reserve(static_cast<size_t>(point.rows));
  for (int32_t row = 0; row < point.rows; ++row) {
    batch.push_back({.tokens = tokens,
                     .start_position = point.context,
                     .block_table = std::span(blocks).subspan(
                         static_cast<size_t>(row) * static_cast<size_t>(blocks_each),
                         static_cast<size_t>(blocks_each)),
                     .first_logit_token = point.tokens - 1});
  }
  const GenerationSpec spec;
  const auto add_draws = [&] {
    for (int32_t row = 0; row < point.rows; ++row) {
      RETURN_IF_ERROR(sampler->Add(row, {.sampling = spec.sampling,
                                         .stopping = spec.stopping,
                                         .tokens = tokens,
                                         .prompt_length = point.tokens,
                                         .eos_tokens = model->info().eos_tokens}));
    }
    return absl::OkStatus();
  };
  sampler->Begin(add_draws);
  RETURN_IF_ERROR(model->Forward(batch, kv, nullptr, logits));
  return sampler->Finish(*logits).status();
}

}  // namespace baton
