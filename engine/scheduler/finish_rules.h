// When a drawn token ends its sample. Pure.
#pragma once

#include <optional>

#include "common/request.h"
#include "engine/scheduler/scheduler.h"

namespace baton {

// A sample with so many outputs, of a branch with so many tokens, is as long as it may be.
bool IsFullLength(const GenerationSpec& spec, const SchedulerOptions& options,
                  int32_t output_tokens, int32_t num_tokens);
// `output` was drawn last; `num_tokens` counts the prompt and all outputs with it. EOS and stop
// tokens win over the lengths; among the first min_tokens outputs they end nothing.
std::optional<SampleFinish> FinishOf(const GenerationSpec& spec, const SchedulerOptions& options,
                                     const TokenOutput& output, int32_t num_tokens);

}  // namespace baton
