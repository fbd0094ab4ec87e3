// What is sent: prompts made of random tokens, and the JSON body around them.
//
// Two prompts share a prefix exactly when their requests share block ids; everything else differs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/load/core/workload.h"

namespace baton::load {

enum class PromptFormat {
  kTokenIds,  // "prompt": [17, 4, …]: exact lengths
  kText,      // common English words, one for each token: lengths are near, not exact
};

enum class Endpoint { kCompletions, kChat };  // chat takes text only

// Ids from which prompts are drawn: [first, last].
struct TokenRange {
  int32_t first = 3;
  int32_t last = 2047;
};

// Leaves out both ends, where models keep special and byte tokens.
TokenRange RangeOfVocabulary(int32_t vocab_size);

struct BodySpec {
  std::string model;
  Endpoint endpoint = Endpoint::kCompletions;
  PromptFormat format = PromptFormat::kTokenIds;
  TokenRange tokens;
  double temperature = 0;
  // Extensions of the OpenAI API: a server that refuses them gets plain requests.
  bool ignore_eos = true;
  bool continuous_usage = true;
  bool timings = true;
  std::string extra_fields;  // members of a JSON object without its braces, or empty
};

// [request.prompt_tokens] ids in `range`.
std::vector<int32_t> PromptTokens(const PlannedRequest& request, const LoadPlan& plan,
                                  const TokenRange& range);

std::string RequestBody(const PlannedRequest& request, const LoadPlan& plan, const BodySpec& spec);

}  // namespace baton::load
