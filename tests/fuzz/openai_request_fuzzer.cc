// Bodies of the OpenAI API. Each is offered to every parser of the router: what is accepted keeps
// to all limits and is taken by a worker as it is, what is refused gets a 4xx in valid JSON.
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "common/check.h"
#include "engine/tokenizer/chat_template.h"
#include "router/openai/request.h"
#include "router/openai/tokenize_api.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/spec_checks.h"
#include "tests/unit/router/byte_tokenizer.h"

namespace baton {
namespace {

constexpr char kTemplate[] =
    "{% for m in messages %}{{ m.role[:1] + ':' + m.content + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}";

class Server {
 public:
  Server() {
    auto parsed = ChatTemplate::Parse(kTemplate);
    BATON_CHECK(parsed.ok()) << parsed.status();
    template_ = *std::move(parsed);
  }

  void Offer(std::string_view body) {
    const RequestHeaders headers;
    CheckCall(ParseCompletionRequest(body, headers, Context()));
    CheckCall(ParseChatRequest(body, headers, Context()));
    CheckText(Tokenize(body, Context()));
    CheckText(Detokenize(body, Context()));
  }

 private:
  ParseContext Context() {
    return {.tokenizer = tokenizer_,
            .render_chat = render_,
            .ids = ids_,
            .model = {.name = "demo",
                      .root = "models/demo",
                      .max_model_len = kFuzzModelLen,
                      .vocab_size = tokenizer_.vocab_size()},
            .limits = limits_,
            .timeout = absl::Seconds(30),
            .now_unix_s = 1700000000,
            .on_unknown_field = [](std::string_view name) { BATON_CHECK(name.data() != nullptr); }};
  }

  static void CheckError(const ApiError& error) {
    BATON_CHECK(error.http_status >= 400 && error.http_status < 500) << error.message;
    BATON_CHECK(!error.message.empty() && error.type == "invalid_request_error") << error.type;
    BATON_CHECK(nlohmann::json::accept(RenderError(error))) << RenderError(error);
  }

  void CheckCall(ApiResult<ApiRequest> result) {
    if (!result.ok()) return CheckError(result.error());
    const ApiRequest& request = result.value();
    BATON_CHECK(!request.prompts.empty()) << "nothing to do";
    BATON_CHECK(static_cast<int32_t>(request.prompts.size()) <= limits_.max_prompts);
    int64_t choices = 0;
    for (const RoutedRequest& prompt : request.prompts) {
      CheckRouted(prompt, limits_, tokenizer_.vocab_size());
      choices += prompt.spec.num_samples;
    }
    BATON_CHECK(choices <= limits_.max_choices) << choices;
  }

  static void CheckText(ApiResult<std::string> result) {
    if (!result.ok()) return CheckError(result.error());
    BATON_CHECK(nlohmann::json::accept(result.value())) << result.value();
  }

  const RequestLimits limits_{.max_samples = 8,
                              .max_prompts = 4,
                              .max_choices = 12,
                              .slo_classes = {"default", "interactive", "batch"}};
  ByteTokenizer tokenizer_;
  IdSource ids_{42};
  std::unique_ptr<ChatTemplate> template_;
  const ChatRenderer render_ = [this](std::string_view context) {
    return template_->Render(context);
  };
};

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static baton::Server server;
  server.Offer(baton::TextOf(data, size));
  return 0;
}
