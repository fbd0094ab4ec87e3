// The "normalizer" of tokenizer.json.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer_spec.h"

namespace baton {

// Immutable after construction and thread-safe.
class Normalizer {
 public:
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}

  // `text` itself when no step changes it, else the result in `storage`.
  // REQUIRES: well-formed UTF-8.
  std::string_view Apply(std::string_view text, std::string& storage) const;

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace baton
