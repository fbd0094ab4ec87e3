// What tokenizer.json says, as plain data: the border between reading the file and building the
// tokenizer. Names follow the file's fields.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/ids.h"

namespace baton {

struct AddedTokenSpec {
  TokenId id = 0;
  std::string content;
  bool single_word = false;  // matches only between non-word characters
  bool lstrip = false;       // takes the white space on its left with it
  bool rstrip = false;
  bool normalized = false;  // looked for after normalization, in its own normalized form
  bool special = false;
};

struct NormalizerStep {
  enum class Kind { kNfc, kPrepend, kReplace };
  Kind kind = Kind::kNfc;
  std::string pattern;  // kReplace: literal text
  std::string content;  // kPrepend, kReplace
};

// What becomes of a match, as `tokenizers` names it.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

enum class PrependScheme { kAlways, kFirst, kNever };

struct PreTokenizerStep {
  enum class Kind { kSplit, kDigits, kMetaspace, kByteLevel };
  Kind kind = Kind::kSplit;
  // kSplit. The pattern is a regular expression or literal text.
  std::string pattern;
  bool pattern_is_regex = false;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
  // kDigits
  bool individual_digits = false;
  // kMetaspace
  std::string replacement;
  PrependScheme prepend_scheme = PrependScheme::kAlways;
  bool split = true;
  // kByteLevel
  bool add_prefix_space = false;
  bool use_regex = true;
  std::string field;  // where it stands in the file, for error messages
};

struct BpeSpec {
  std::vector<std::pair<std::string, TokenId>> vocab;
  std::vector<std::pair<std::string, std::string>> merges;  // best first
  std::string unk_token;                                    // empty: none
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
};

// Token ids around the text when special tokens are asked for.
struct PostProcessorSpec {
  std::vector<TokenId> prefix;
  std::vector<TokenId> suffix;
};

struct DecoderSpec {
  enum class Kind { kByteLevel, kSentencePiece };
  Kind kind = Kind::kByteLevel;
  // kSentencePiece: literal replacements in each token, in order.
  std::vector<std::pair<std::string, std::string>> replacements;
  bool byte_fallback = false;
  // At most this many leading spaces of the whole text are dropped.
  int32_t strip_leading_spaces = 0;
  // Metaspace: the first token loses every occurrence of this. Empty: off.
  std::string first_token_drop;
};

struct TokenizerSpec {
  std::vector<AddedTokenSpec> added_tokens;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  BpeSpec model;
  PostProcessorSpec post_processor;
  DecoderSpec decoder;
};

}  // namespace baton
