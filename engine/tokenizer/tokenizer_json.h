// Reads a Hugging Face tokenizer.json into a TokenizerSpec.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace baton {

// Token ids are below this: it bounds the tables that are indexed by id.
inline constexpr TokenId kMaxTokenId = (1 << 22) - 1;

// Checks each field on its own (types, ranges, kinds that Baton has) and that ids and names agree;
// names file and field in every error. Whether the parts fit together is the builders' business.
// The file's "truncation" and "padding" are ignored: a prompt's length is the caller's decision.
absl::StatusOr<TokenizerSpec> ReadTokenizerJson(const std::string& path);

// "bos_token" and "eos_token" of tokenizer_config.json: the token's text, empty when there is none.
struct SpecialTokenNames {
  std::string bos;
  std::string eos;
};
// A missing file is not an error: both are empty.
absl::StatusOr<SpecialTokenNames> ReadTokenizerConfig(const std::string& path);

}  // namespace baton
