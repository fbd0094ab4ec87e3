// Tokens to text, token by token. Tokenizer::Decode runs through here too, so that the whole and
// the incremental text cannot differ.
#include <algorithm>

#include "engine/tokenizer/literal_replace.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

// Bytes to text. What may still become part of a character waits.
class TextAssembler {
 public:
  explicit TextAssembler(const DecodeTraits& traits) : traits_(traits) {}

  void Push(std::string_view token_bytes, std::string& out);
  void Finish(std::string& out) { Flush(pending_.size(), out); }
  void MarkPromptEnd() { prompt_bytes_ = pending_.size(); }
  bool any_token() const { return any_token_; }

 private:
  void Flush(size_t length_bytes, std::string& out);

  const DecodeTraits& traits_;
  bool any_token_ = false;
  bool at_text_start_ = true;  // nothing but dropped spaces so far
  int32_t stripped_ = 0;       // leading spaces dropped
  std::string pending_;
  size_t prompt_bytes_ = 0;  // leading bytes of pending_ that came from the prompt
};

void TextAssembler::Push(std::string_view token_bytes, std::string& out) {
  any_token_ = true;
  if (at_text_start_) {
    while (stripped_ < traits_.strip_leading_spaces && token_bytes.starts_with(' ')) {
      token_bytes.remove_prefix(1);
      ++stripped_;
    }
    at_text_start_ = token_bytes.empty();
  }
  pending_.append(token_bytes);
  Flush(pending_.size() - IncompleteUtf8Suffix(pending_), out);
}

void TextAssembler::Flush(size_t length_bytes, std::string& out) {
  const std::string_view ready = std::string_view(pending_).substr(0, length_bytes);
  for (size_t pos = 0; pos < ready.size();) {
    const Utf8Char c = DecodeUtf8(ready, pos);
    if (c.valid) {
      out.append(ready.substr(pos, c.length_bytes));
    } else {
      // What the prompt alone left broken is part of the prompt's text.
      const size_t begin = std::max(pos, prompt_bytes_);
      const size_t end = pos + c.length_bytes;
      if (begin < end) {
        const size_t count = traits_.replace_each_byte ? end - begin : 1;
        for (size_t i = 0; i < count; ++i) out.append(kReplacementUtf8);
      }
    }
    pos += c.length_bytes;
  }
  pending_.erase(0, length_bytes);
  prompt_bytes_ -= std::min(prompt_bytes_, length_bytes);
}

}  // namespace

struct IncrementalDetokenizer::Impl {
  Impl(const Tokenizer& owner, bool skip)
      : tokenizer(owner), skip_special(skip), traits(owner.decode_traits()), assembler(traits) {}

  void Push(TokenId token, std::string& out) {
    if (skip_special && tokenizer.IsSpecial(token)) return;
    if (!assembler.any_token() && !traits.first_token_drop.empty()) {
      const std::string piece = tokenizer.TokenPiece(token);
      std::string kept;
      const std::string_view cut = ReplaceLiteral(piece, traits.first_token_drop, "", kept);
      if (cut.size() < piece.size()) {
        assembler.Push(cut, out);
        return;
      }
      if (piece.empty()) return;  // an unknown id is no first token
    }
    assembler.Push(tokenizer.TokenBytes(token), out);
  }

  const Tokenizer& tokenizer;
  const bool skip_special;
  const DecodeTraits traits;
  TextAssembler assembler;
};

IncrementalDetokenizer::IncrementalDetokenizer(const Tokenizer& tokenizer,
                                               std::span<const TokenId> prompt, bool skip_special)
    : impl_(std::make_unique<Impl>(tokenizer, skip_special)) {
  std::string prompt_text;
  for (const TokenId token : prompt) {
    impl_->Push(token, prompt_text);
    prompt_text.clear();
  }
  impl_->assembler.MarkPromptEnd();
}

IncrementalDetokenizer::~IncrementalDetokenizer() = default;
IncrementalDetokenizer::IncrementalDetokenizer(IncrementalDetokenizer&&) noexcept = default;

std::string IncrementalDetokenizer::Push(TokenId token) {
  std::string out;
  impl_->Push(token, out);
  return out;
}

std::string IncrementalDetokenizer::Finish() {
  std::string out;
  impl_->assembler.Finish(out);
  return out;
}

}  // namespace baton
