// Cuts normalized text into the pieces that BPE never merges across.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/split_pattern.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace baton {

// Immutable after Create and thread-safe.
class PreTokenizer {
 public:
  // The pieces of one text. Views into the text, or into `storage` where a step changed it.
  struct Pieces {
    std::vector<std::string_view> views;
    std::deque<std::string> storage;  // a deque: growing it moves no string
  };

  // INVALID_ARGUMENT names the field of the step that cannot be built.
  static absl::StatusOr<std::unique_ptr<PreTokenizer>> Create(
      const std::vector<PreTokenizerStep>& steps);

  // Pieces are the plain bytes of the text: the byte-level alphabet is not applied.
  // `at_text_start`: nothing stands before `text` in the prompt. REQUIRES: well-formed UTF-8.
  void Split(std::string_view text, bool at_text_start, Pieces& pieces) const;

 private:
  struct Step {
    PreTokenizerStep spec;
    std::unique_ptr<SplitPattern> pattern;  // null: literal text, or nothing to split at
  };

  void SplitMetaspace(const PreTokenizerStep& spec, bool at_text_start, Pieces& pieces) const;

  std::vector<Step> steps_;
};

}  // namespace baton
