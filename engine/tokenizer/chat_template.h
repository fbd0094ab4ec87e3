// Renders a conversation to a prompt with the model's own Jinja template.
//
// The subset of Jinja that the Llama 3, Qwen2.5/3, Mistral and ChatML templates use. A construct
// outside it is an error at Load that names the line; an error while rendering (raise_exception, a
// missing field) is INVALID_ARGUMENT with the template's message.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace baton {

// Immutable after Load and thread-safe.
class ChatTemplate {
 public:
  // chat_template.jinja in `model_dir`, else "chat_template" in tokenizer_config.json. NOT_FOUND
  // when the model has neither. The config's bos_token, eos_token, unk_token and pad_token are
  // variables of the template, unless Render's context gives them too.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Load(const std::string& model_dir);
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Parse(std::string_view source);
  ~ChatTemplate();

  // `context_json`: an object with "messages" ([{role, content, …}]), "add_generation_prompt" and
  // whatever else the template reads ("tools", "bos_token", "enable_thinking", …). Time and output
  // are bounded: a template that loops without end fails. There is no clock here: strftime_now is
  // defined (in UTC) only when the context gives the time as "current_time_unix_s".
  absl::StatusOr<std::string> Render(std::string_view context_json) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton
