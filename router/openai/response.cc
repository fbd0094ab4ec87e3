#include "router/openai/response.h"

#include <utility>

#include "common/check.h"
#include "router/openai/json_writer.h"
#include "router/openai/logprobs.h"

namespace baton {
namespace {

std::string_view ObjectName(const ResponseShape& shape) {
  if (shape.kind == ApiKind::kCompletion) return "text_completion";
  return shape.stream ? "chat.completion.chunk" : "chat.completion";
}

std::string RenderHead(const ResponseShape& shape) {
  std::string out = "{\"id\":";
  AppendJsonString(out, shape.id);
  out += ",\"object\":";
  AppendJsonString(out, ObjectName(shape));
  out += ",\"created\":";
  AppendInt(out, shape.created_unix_s);
  out += ",\"model\":";
  AppendJsonString(out, shape.model);
  return out;
}

void AppendUsage(const UsageTotals& usage, bool with_details, std::string& out) {
  out += ",\"usage\":{\"prompt_tokens\":";
  AppendInt(out, usage.prompt_tokens);
  out += ",\"completion_tokens\":";
  AppendInt(out, usage.completion_tokens);
  out += ",\"total_tokens\":";
  AppendInt(out, usage.prompt_tokens + usage.completion_tokens);
  if (with_details) {
    out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
    AppendInt(out, usage.cached_tokens);
    out += '}';
  }
  out += '}';
}

void AppendTimings(const RequestTimings& timings, std::string& out) {
  const std::pair<std::string_view, double> stages[] = {
      {"queue_ms", timings.queue_ms},
      {"reserve_ms", timings.reserve_ms},
      {"prefill_ms", timings.prefill_ms},
      {"transfer_ms", timings.transfer_ms},
      {"transfer_exposed_ms", timings.transfer_exposed_ms},
      {"decode_queue_ms", timings.decode_queue_ms},
      {"decode_ms", timings.decode_ms},
      {"ttft_ms", timings.ttft_ms},
      {"tpot_ms", timings.tpot_ms},
      {"total_ms", timings.total_ms}};
  out += ",\"timings\":{";
  for (const auto& [name, milliseconds] : stages) {
    AppendJsonString(out, name);
    out += ':';
    AppendDouble(out, milliseconds);
    out += ',';
  }
  out += "\"kv_bytes\":";
  AppendInt(out, timings.kv_bytes);
  out += ",\"prefill_worker\":";
  AppendJsonString(out, timings.prefill_worker);
  out += ",\"decode_worker\":";
  AppendJsonString(out, timings.decode_worker);
  out += ",\"transport\":";
  AppendJsonString(out, timings.transport);
  out += ",\"attempts\":";
  AppendInt(out, timings.attempts);
  out += '}';
}

// The end of a choice: both fields are present in every chunk, null until the last.
void AppendFinish(const SampleDelta& delta, std::string& out) {
  out += ",\"finish_reason\":";
  if (!delta.finished) {
    out += "null,\"stop_reason\":null";
    return;
  }
  AppendJsonString(out, FinishReasonName(delta.reason));
  out += ",\"stop_reason\":";
  if (delta.stop_token >= 0) {
    AppendInt(out, delta.stop_token);
  } else {
    AppendJsonStringOrNull(out, delta.stop_reason);
  }
}

void AppendLogprobs(const ResponseShape& shape, const Tokenizer& tokenizer,
                    std::span<const OutputToken> prompt, const SampleDelta& delta,
                    int64_t& text_offset, std::string& out) {
  out += ",\"logprobs\":";
  if (!shape.logprobs) {
    out += "null";
  } else if (shape.kind == ApiKind::kChat) {
    AppendChatLogprobs(delta.tokens, tokenizer, out);
  } else {
    AppendCompletionLogprobs(prompt, delta.tokens, text_offset, out);
  }
}

std::vector<TokenId> IdsOf(const SampleDelta& delta) {
  std::vector<TokenId> ids;
  ids.reserve(delta.tokens.size());
  for (const OutputToken& token : delta.tokens) ids.push_back(token.token);
  return ids;
}

UsageTotals PromptUsage(const ResponseShape& shape) {
  UsageTotals usage;
  for (const PromptShape& prompt : shape.prompts) usage.prompt_tokens += prompt.prompt_tokens;
  return usage;
}

}  // namespace

StreamRenderer::StreamRenderer(ResponseShape shape, const Tokenizer& tokenizer)
    : shape_(std::move(shape)),
      tokenizer_(tokenizer),
      head_(RenderHead(shape_)),
      choices_(shape_.prompts.size() * static_cast<size_t>(shape_.samples)),
      prompt_logprobs_(shape_.prompts.size()),
      usage_(PromptUsage(shape_)) {}

void StreamRenderer::OnPromptLogprobs(size_t prompt, std::vector<OutputToken> tokens) {
  prompt_logprobs_[prompt] = std::move(tokens);
}

bool StreamRenderer::AppendDelta(size_t prompt, const SampleDelta& delta, std::string& out) {
  if (delta.text.empty() && delta.tokens.empty() && !delta.finished) return false;
  const size_t index =
      prompt * static_cast<size_t>(shape_.samples) + static_cast<size_t>(delta.sample);
  BATON_CHECK(delta.sample >= 0 && index < choices_.size()) << delta.sample;
  usage_.completion_tokens += static_cast<int64_t>(delta.tokens.size());
  out += head_;
  out += ",\"choices\":[{\"index\":";
  AppendInt(out, static_cast<int64_t>(index));
  AppendChoice(prompt, choices_[index], delta, out);
  out += "}]";
  if (shape_.continuous_usage) AppendUsage(usage_, /*with_details=*/false, out);
  out += '}';
  return true;
}

void StreamRenderer::AppendChoice(size_t prompt, Choice& choice, const SampleDelta& delta,
                                  std::string& out) {
  const bool first = !std::exchange(choice.started, true);
  const bool echo = first && shape_.echo;
  if (shape_.kind == ApiKind::kChat) {
    out += first ? ",\"delta\":{\"role\":\"assistant\",\"content\":" : ",\"delta\":{\"content\":";
    AppendJsonString(out, delta.text);
    out += '}';
  } else {
    out += ",\"text\":";
    AppendJsonString(out, echo ? shape_.prompts[prompt].echo_text + delta.text : delta.text);
  }
  const std::span<const OutputToken> prompt_tokens =
      echo ? std::span<const OutputToken>(prompt_logprobs_[prompt])
           : std::span<const OutputToken>();
  AppendLogprobs(shape_, tokenizer_, prompt_tokens, delta, choice.text_offset, out);
  AppendFinish(delta, out);
  if (!shape_.return_token_ids) return;
  if (first) {
    out += ",\"prompt_token_ids\":";
    AppendTokenIds(out, shape_.prompts[prompt].tokens);
  }
  out += ",\"token_ids\":";
  AppendTokenIds(out, IdsOf(delta));
}

void StreamRenderer::OnFinish(const RequestSummary& summary) {
  usage_.cached_tokens += summary.cached_tokens;
  timings_ = summary.timings;
}

bool StreamRenderer::AppendLast(std::string& out) {
  if (!shape_.include_usage && !shape_.timings) return false;
  out += head_;
  out += ",\"choices\":[]";
  if (shape_.include_usage) AppendUsage(usage_, /*with_details=*/true, out);
  if (shape_.timings) AppendTimings(timings_, out);
  out += '}';
  return true;
}

BodyRenderer::BodyRenderer(ResponseShape shape, const Tokenizer& tokenizer)
    : shape_(std::move(shape)),
      tokenizer_(tokenizer),
      choices_(shape_.prompts.size() * static_cast<size_t>(shape_.samples)),
      prompt_logprobs_(shape_.prompts.size()),
      usage_(PromptUsage(shape_)) {}

void BodyRenderer::OnPromptLogprobs(size_t prompt, std::vector<OutputToken> tokens) {
  prompt_logprobs_[prompt] = std::move(tokens);
}

void BodyRenderer::OnDelta(size_t prompt, SampleDelta delta) {
  const size_t index =
      prompt * static_cast<size_t>(shape_.samples) + static_cast<size_t>(delta.sample);
  BATON_CHECK(delta.sample >= 0 && index < choices_.size()) << delta.sample;
  Choice& choice = choices_[index];
  usage_.completion_tokens += static_cast<int64_t>(delta.tokens.size());
  if (shape_.return_token_ids) {
    for (const OutputToken& token : delta.tokens) choice.token_ids.push_back(token.token);
  }
  choice.whole.text += delta.text;
  if (shape_.logprobs) {
    for (OutputToken& token : delta.tokens) choice.whole.tokens.push_back(std::move(token));
  }
  if (!delta.finished) return;
  choice.whole.finished = true;
  choice.whole.reason = delta.reason;
  choice.whole.stop_reason = std::move(delta.stop_reason);
  choice.whole.stop_token = delta.stop_token;
}

void BodyRenderer::OnFinish(const RequestSummary& summary) {
  usage_.cached_tokens += summary.cached_tokens;
  timings_ = summary.timings;
}

void BodyRenderer::AppendChoice(size_t index, std::string& out) const {
  const size_t prompt = index / static_cast<size_t>(shape_.samples);
  const Choice& choice = choices_[index];
  out += "{\"index\":";
  AppendInt(out, static_cast<int64_t>(index));
  if (shape_.kind == ApiKind::kChat) {
    out += ",\"message\":{\"role\":\"assistant\",\"content\":";
    AppendJsonString(out, choice.whole.text);
    out += '}';
  } else {
    out += ",\"text\":";
    AppendJsonString(out, shape_.prompts[prompt].echo_text + choice.whole.text);
  }
  int64_t text_offset = 0;
  AppendLogprobs(shape_, tokenizer_, prompt_logprobs_[prompt], choice.whole, text_offset, out);
  AppendFinish(choice.whole, out);
  if (shape_.return_token_ids) {
    out += ",\"prompt_token_ids\":";
    AppendTokenIds(out, shape_.prompts[prompt].tokens);
    out += ",\"token_ids\":";
    AppendTokenIds(out, choice.token_ids);
  }
  out += '}';
}

std::string BodyRenderer::Render() const {
  std::string out = RenderHead(shape_);
  out += ",\"choices\":[";
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (i > 0) out += ',';
    AppendChoice(i, out);
  }
  out += ']';
  AppendUsage(usage_, /*with_details=*/true, out);
  if (shape_.timings) AppendTimings(timings_, out);
  out += '}';
  return out;
}

}  // namespace baton
