// Fits a prompt and its answer into the model's context.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "router/front/field_error.h"

namespace baton {

struct ContextQuestion {
  int64_t prompt_tokens = 0;
  std::optional<int64_t> max_tokens;      // as the client asked
  std::optional<int32_t> default_tokens;  // when it did not; nullopt: the rest of the context
  int32_t max_model_len = 0;
  std::string max_tokens_param;  // the field's name, for the error
};

struct ContextAnswer {
  std::optional<FieldError> error;
  int32_t max_tokens = 0;  // valid without an error; at least 1
};

// A default shrinks to what is left; what the client asked for is kept or refused.
ContextAnswer FitContext(const ContextQuestion& question);

}  // namespace baton
