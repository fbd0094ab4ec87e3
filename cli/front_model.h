// What the router needs of a model directory: tokenizer, chat template, end tokens, name. No
// weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"

namespace baton {

struct FrontModel {
  std::string name;  // the directory's, unless the operator gave one
  std::string root;  // as given: a directory or dummy:CONFIG.json
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat_template;  // null: the model has none
  std::vector<TokenId> eos_tokens;
};

// A dummy model without a tokenizer.json beside its config gets the dummy tokenizer.
absl::StatusOr<FrontModel> LoadFrontModel(const std::string& model, const std::string& served_name);

}  // namespace baton
