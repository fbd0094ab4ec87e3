#include "bench/load/core/prompt.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <string_view>

#include "bench/load/core/random.h"
#include "common/hash.h"

namespace baton::load {
namespace {

// Most tokenizers have one token for each of these with a space before it.
constexpr std::array<std::string_view, 64> kWords = {
    " the",  " and",  " a",    " to",   " was",  " of",   " in",     " he",   " it",   " she",
    " you",  " that", " had",  " his",  " her",  " with", " for",    " on",   " said", " they",
    " but",  " is",   " at",   " day",  " very", " one",  " little", " all",  " up",   " so",
    " not",  " then", " big",  " were", " out",  " when", " there",  " went", " him",  " them",
    " see",  " time", " like", " what", " from", " some", " could",  " who",  " be",   " have",
    " were", " as",   " this", " do",   " an",   " can",  " down",   " into", " we",   " did",
    " are",  " my",   " me",   " by"};

void AppendNumber(int64_t value, std::string* out) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  out->append(digits, end);
}

void AppendTokenIds(const std::vector<int32_t>& tokens, std::string* out) {
  out->push_back('[');
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out->push_back(',');
    AppendNumber(tokens[i], out);
  }
  out->push_back(']');
}

// A JSON string; the words need no escapes.
void AppendWords(const std::vector<int32_t>& tokens, std::string* out) {
  out->push_back('"');
  for (const int32_t token : tokens) out->append(kWords[static_cast<size_t>(token)]);
  out->push_back('"');
}

}  // namespace

TokenRange RangeOfVocabulary(int32_t vocab_size) {
  const int32_t margin = std::min(1000, vocab_size / 16);
  return {std::min(margin, vocab_size - 1), std::max(vocab_size - 1 - margin, 0)};
}

std::vector<int32_t> PromptTokens(const PlannedRequest& request, const LoadPlan& plan,
                                  const TokenRange& range) {
  std::vector<int32_t> tokens;
  tokens.reserve(static_cast<size_t>(request.prompt_tokens));
  const auto left = [&] { return request.prompt_tokens - static_cast<int32_t>(tokens.size()); };
  const auto fill = [&](Rng rng, int32_t count) {
    for (int32_t i = 0; i < count; ++i) {
      tokens.push_back(static_cast<int32_t>(rng.UniformInt(range.first, range.last)));
    }
  };
  for (const int64_t block : request.block_ids) {
    if (left() <= 0) break;
    fill(Rng(HashCombine(plan.seed, static_cast<uint64_t>(block)), /*stream=*/1),
         std::min(plan.block_tokens, left()));
  }
  fill(Rng(request.content_seed, /*stream=*/2), left());
  return tokens;
}

std::string RequestBody(const PlannedRequest& request, const LoadPlan& plan, const BodySpec& spec) {
  std::string body = "{\"model\":";
  body += nlohmann::json(spec.model).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  body.reserve(body.size() + static_cast<size_t>(request.prompt_tokens) * 7 + 256);
  const bool ids =
      spec.format == PromptFormat::kTokenIds && spec.endpoint == Endpoint::kCompletions;
  const TokenRange range = ids ? spec.tokens : TokenRange{0, static_cast<int>(kWords.size()) - 1};
  const std::vector<int32_t> tokens = PromptTokens(request, plan, range);
  if (ids) {
    body += ",\"prompt\":";
    AppendTokenIds(tokens, &body);
  } else if (spec.endpoint == Endpoint::kCompletions) {
    body += ",\"prompt\":";
    AppendWords(tokens, &body);
  } else {
    body += ",\"messages\":[{\"role\":\"user\",\"content\":";
    AppendWords(tokens, &body);
    body += "}]";
  }
  body += ",\"max_tokens\":";
  AppendNumber(request.output_tokens, &body);
  body += ",\"temperature\":" + nlohmann::json(spec.temperature).dump();
  body += ",\"stream\":true,\"stream_options\":{\"include_usage\":true";
  if (spec.continuous_usage) body += ",\"continuous_usage_stats\":true";
  body += '}';
  if (spec.ignore_eos) body += ",\"ignore_eos\":true";
  if (spec.timings) body += ",\"timings\":true";
  if (!spec.extra_fields.empty()) body += "," + spec.extra_fields;
  body += '}';
  return body;
}

}  // namespace baton::load
