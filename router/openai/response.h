// Renders answers of /v1/completions and /v1/chat/completions: whole bodies and stream chunks.
//
// Pure; each renderer belongs to one call and is not thread-safe. Output is JSON without framing.
// Choice index = prompt * samples + sample. Specification: the OpenAI API reference; token_ids and
// stop_reason as vLLM writes them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "router/completion_service.h"

namespace baton {

enum class ApiKind { kCompletion, kChat };

struct PromptShape {
  int32_t prompt_tokens = 0;
  std::string echo_text;        // set with echo only
  std::vector<TokenId> tokens;  // set with return_token_ids only
};

// What the answer looks like, fixed when the request was parsed.
struct ResponseShape {
  ApiKind kind = ApiKind::kCompletion;
  std::string id;
  std::string model;
  int64_t created_unix_s = 0;
  int32_t samples = 1;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool logprobs = false;
  bool echo = false;
  bool return_token_ids = false;
  bool timings = false;
  std::vector<PromptShape> prompts;
};

// The sum over the prompts of a call.
struct UsageTotals {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
};

// Chunks of a streamed answer. `role` rides with each choice's first chunk.
class StreamRenderer {
 public:
  // `tokenizer` must outlive the renderer.
  StreamRenderer(ResponseShape shape, const Tokenizer& tokenizer);

  // Kept for the first chunk of each of the prompt's choices (echo with logprobs).
  void OnPromptLogprobs(size_t prompt, std::vector<OutputToken> tokens);
  // Appends one chunk. False, and nothing appended, when the delta has nothing to say.
  bool AppendDelta(size_t prompt, const SampleDelta& delta, std::string& out);
  void OnFinish(const RequestSummary& summary);
  // After every prompt has finished: the chunk without choices that carries usage or timings.
  // False when neither was asked for.
  bool AppendLast(std::string& out);

 private:
  struct Choice {
    bool started = false;
    int64_t text_offset = 0;  // characters so far, for logprobs.text_offset
  };

  void AppendChoice(size_t prompt, Choice& choice, const SampleDelta& delta, std::string& out);

  const ResponseShape shape_;
  const Tokenizer& tokenizer_;
  const std::string head_;  // {"id":…,"model":…, the same in every chunk
  std::vector<Choice> choices_;
  std::vector<std::vector<OutputToken>> prompt_logprobs_;
  UsageTotals usage_;
  RequestTimings timings_;
};

// The whole body of an answer that is not streamed.
class BodyRenderer {
 public:
  // `tokenizer` must outlive the renderer.
  BodyRenderer(ResponseShape shape, const Tokenizer& tokenizer);

  void OnPromptLogprobs(size_t prompt, std::vector<OutputToken> tokens);
  void OnDelta(size_t prompt, SampleDelta delta);
  void OnFinish(const RequestSummary& summary);
  // After every prompt has finished.
  std::string Render() const;

 private:
  // A choice's deltas put together; `tokens` is kept only where the answer shows it.
  struct Choice {
    SampleDelta whole;
    std::vector<TokenId> token_ids;
  };

  void AppendChoice(size_t index, std::string& out) const;

  const ResponseShape shape_;
  const Tokenizer& tokenizer_;
  std::vector<Choice> choices_;
  std::vector<std::vector<OutputToken>> prompt_logprobs_;
  UsageTotals usage_;
  RequestTimings timings_;
};

}  // namespace baton
