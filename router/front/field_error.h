// Why a front refuses a request before the router sees it.
#pragma once

#include <string>

namespace baton {

struct FieldError {
  std::string param;    // the field at fault, as the client wrote it; empty: the whole request
  std::string message;  // what, which value, what is allowed
  bool context_length = false;  // the prompt and max_tokens exceed the model's context
};

}  // namespace baton
