#include "engine/tokenizer/dummy_tokenizer.h"

#include "absl/strings/str_cat.h"

namespace baton {
namespace {

constexpr TokenId kByteTokens = 256;

class DummyTokenizer final : public Tokenizer {
 public:
  explicit DummyTokenizer(int32_t vocab_size) : vocab_size_(vocab_size) {}

  std::vector<TokenId> Encode(std::string_view text, bool /*add_special_tokens*/,
                              bool /*parse_special*/) const override {
    std::vector<TokenId> tokens;
    tokens.reserve(text.size());
    for (const char byte : text) {
      tokens.push_back(static_cast<unsigned char>(byte) % vocab_size_);
    }
    return tokens;
  }

  std::string Decode(std::span<const TokenId> tokens, bool skip_special) const override {
    IncrementalDetokenizer detokenizer(*this, {}, skip_special);
    std::string text;
    for (const TokenId token : tokens) text += detokenizer.Push(token);
    return text + detokenizer.Finish();
  }

  std::string TokenBytes(TokenId token) const override {
    if (token < 0 || token >= vocab_size_) return "";
    if (token < kByteTokens) return std::string(1, static_cast<char>(token));
    return absl::StrCat(" ", token);
  }

  std::string TokenPiece(TokenId token) const override { return TokenBytes(token); }
  bool IsSpecial(TokenId /*token*/) const override { return false; }
  int32_t vocab_size() const override { return vocab_size_; }
  TokenId bos_token() const override { return -1; }
  TokenId eos_token() const override { return -1; }

 private:
  const int32_t vocab_size_;
};

}  // namespace

std::unique_ptr<Tokenizer> MakeDummyTokenizer(int32_t vocab_size) {
  return std::make_unique<DummyTokenizer>(vocab_size);
}

}  // namespace baton
