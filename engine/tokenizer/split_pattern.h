// A pre-tokenizer's regular expression, run by PCRE2 (UTF, Unicode properties, JIT).
//
// Files are written for Oniguruma. Constructs that mean something else in PCRE2 are translated
// (`\s`) or refused at Compile (`\w`, `\h`, `^`, `$`, `&&` in a class, back references, …).
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"

namespace baton {

// Immutable after Compile and thread-safe.
class SplitPattern {
 public:
  // INVALID_ARGUMENT when the pattern does not compile, is refused, or can match the empty text.
  static absl::StatusOr<std::unique_ptr<SplitPattern>> Compile(std::string_view oniguruma_pattern);
  ~SplitPattern();

  struct Match {
    size_t begin = 0;
    size_t end = 0;
  };

  // Walks the matches in one text, left to right. One for each text and thread.
  class Scanner {
   public:
    // REQUIRES: well-formed UTF-8; both arguments outlive the scanner.
    Scanner(const SplitPattern& pattern, std::string_view text);
    ~Scanner();
    // False when there is no further match. A text that drives the pattern past PCRE2's limits on
    // backtracking ends the walk: what is left stays one piece.
    bool Next(Match& match);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

 private:
  struct Impl;
  explicit SplitPattern(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton
