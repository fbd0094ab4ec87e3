// Text to token ids and back, from a Hugging Face tokenizer.json.
//
// Source: the `tokenizers` package's file format. Supported: byte-level BPE (Llama 3, Qwen2, GPT-2
// split patterns) and SentencePiece-style BPE with byte fallback (Llama 2, Mistral). Anything else
// in the file is a load error that names the field.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"

namespace baton {

// How token bytes become text. The defaults are those of a byte-level vocabulary: all bytes in a
// row, ill-formed UTF-8 replaced as from_utf8_lossy does.
struct DecodeTraits {
  int32_t strip_leading_spaces = 0;  // at most this many spaces at the text's start are dropped
  std::string first_token_drop;      // dropped wherever it stands in the first token's piece
  bool replace_each_byte = false;    // one U+FFFD for each ill-formed byte, not for each sequence
};

// Immutable after Load and thread-safe.
class Tokenizer {
 public:
  // Reads tokenizer.json and, where present, tokenizer_config.json in `model_dir`.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& model_dir);

  virtual ~Tokenizer() = default;

  // Any bytes in, including invalid UTF-8 (each invalid sequence becomes U+FFFD, as `tokenizers`
  // does). `add_special_tokens` applies the post-processor (usually BOS). Special tokens written in
  // the text are recognised when `parse_special` is set: set it for rendered chat templates only.
  // Linear time in the text's length.
  virtual std::vector<TokenId> Encode(std::string_view text, bool add_special_tokens,
                                      bool parse_special) const = 0;

  // The whole text; unknown ids are left out. Bytes that are not UTF-8 become U+FFFD. One thing
  // differs from `tokenizers` on purpose: an ill-formed run of byte-fallback tokens keeps its
  // well-formed characters (there the whole run is replaced, which a stream that has already shown
  // those characters cannot follow).
  virtual std::string Decode(std::span<const TokenId> tokens, bool skip_special) const = 0;

  // The raw bytes of one token, which may be part of a character. Empty for an unknown id.
  virtual std::string TokenBytes(TokenId token) const = 0;
  // The token as it stands in the vocabulary ("Ġhello").
  virtual std::string TokenPiece(TokenId token) const = 0;
  virtual bool IsSpecial(TokenId token) const = 0;
  virtual DecodeTraits decode_traits() const { return {}; }

  virtual int32_t vocab_size() const = 0;  // largest id + 1, added tokens included
  virtual TokenId bos_token() const = 0;   // -1: none
  virtual TokenId eos_token() const = 0;   // -1: none
};

// Turns a growing list of tokens into text without ever emitting half a character or changing what
// was emitted. One for each sample; not thread-safe.
class IncrementalDetokenizer {
 public:
  // `tokenizer` must outlive it. `prompt` gives the context of the first output token
  // (SentencePiece strips a leading space at the start only); its text is not emitted.
  IncrementalDetokenizer(const Tokenizer& tokenizer, std::span<const TokenId> prompt,
                         bool skip_special);
  ~IncrementalDetokenizer();
  IncrementalDetokenizer(IncrementalDetokenizer&&) noexcept;

  // The text that is certain after this token; may be empty.
  std::string Push(TokenId token);
  // What is left at the end: incomplete bytes become U+FFFD.
  std::string Finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton
