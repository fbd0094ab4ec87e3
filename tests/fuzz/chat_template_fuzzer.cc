// Chat templates: the template up to the first zero byte, the context behind it as JSON (without
// one: a conversation). Parsing and rendering end in time, with a text within bounds or an error
// that names a line; the same input gives the same text.
#include <algorithm>
#include <cstdint>
#include <string>

#include "common/check.h"
#include "engine/tokenizer/chat_template.h"
#include "tests/fuzz/pieces.h"

namespace baton {
namespace {

constexpr std::string_view kConversation =
    R"({"messages": [{"role": "system", "content": "Be brief."},
                     {"role": "user", "content": " h\u00e9llo\n <b> "},
                     {"role": "assistant", "content": "x</think>y", "tool_calls":
                      [{"function": {"name": "f", "arguments": {"a": [1, 2.5, null, true]}}}]},
                     {"role": "tool", "content": "7"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>",
        "current_time_unix_s": 1700000000})";

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  const std::string_view text = TextOf(data, size);
  const size_t zero = std::min(text.find('\0'), text.size());
  const auto parsed = ChatTemplate::Parse(text.substr(0, zero));
  if (!parsed.ok()) {
    BATON_CHECK(absl::IsInvalidArgument(parsed.status())) << parsed.status();
    return 0;
  }
  const std::string_view context = zero == text.size() ? kConversation : text.substr(zero + 1);
  const auto rendered = (*parsed)->Render(context);
  const auto again = (*parsed)->Render(context);
  BATON_CHECK(rendered.status() == again.status()) << rendered.status() << again.status();
  if (!rendered.ok()) {
    BATON_CHECK(absl::IsInvalidArgument(rendered.status())) << rendered.status();
    return 0;
  }
  BATON_CHECK(*rendered == *again) << *rendered << *again;
  return 0;
}
