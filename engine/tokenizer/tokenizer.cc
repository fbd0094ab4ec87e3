#include "engine/tokenizer/tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe_model.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/tokenizer/literal_replace.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/tokenizer_spec.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

struct TokenEntry {
  std::string piece;
  std::string bytes;
  bool special = false;
};

// The bytes that a token adds to the decoded text.
std::string DecodedBytes(const DecoderSpec& decoder, const std::string& piece) {
  if (decoder.kind == DecoderSpec::Kind::kByteLevel) {
    return BytesOfPiece(piece).value_or(piece);
  }
  std::string text = piece;
  std::string storage;
  for (const auto& [pattern, content] : decoder.replacements) {
    text = std::string(ReplaceLiteral(text, pattern, content, storage));
  }
  if (decoder.byte_fallback) {
    if (const auto byte = ByteOfFallbackPiece(text)) return {static_cast<char>(*byte)};
  }
  return text;
}

// The parts of one tokenizer.json, put together.
class HuggingFaceTokenizer final : public Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(TokenizerSpec spec,
                                                           const SpecialTokenNames& names);

  std::vector<TokenId> Encode(std::string_view text, bool add_special_tokens,
                              bool parse_special) const override;
  std::string Decode(std::span<const TokenId> tokens, bool skip_special) const override;
  std::string TokenBytes(TokenId token) const override {
    const TokenEntry* entry = Find(token);
    return entry == nullptr ? std::string() : entry->bytes;
  }
  std::string TokenPiece(TokenId token) const override {
    const TokenEntry* entry = Find(token);
    return entry == nullptr ? std::string() : entry->piece;
  }
  bool IsSpecial(TokenId token) const override {
    const TokenEntry* entry = Find(token);
    return entry != nullptr && entry->special;
  }
  DecodeTraits decode_traits() const override { return traits_; }
  int32_t vocab_size() const override { return static_cast<int32_t>(entries_.size()); }
  TokenId bos_token() const override { return bos_; }
  TokenId eos_token() const override { return eos_; }

 private:
  explicit HuggingFaceTokenizer(TokenizerSpec spec)
      : spec_(std::move(spec)), normalizer_(spec_.normalizer) {}

  absl::Status BuildEntries(const SpecialTokenNames& names);
  void BuildMatchers();
  // Encodes the text between two added tokens that are looked for before normalization.
  void EncodePlain(std::string_view text, bool at_text_start, bool parse_special,
                   std::vector<TokenId>& out) const;
  const TokenEntry* Find(TokenId token) const {
    return token >= 0 && token < vocab_size() ? &entries_[static_cast<size_t>(token)] : nullptr;
  }

  TokenizerSpec spec_;  // without its vocabulary and merges, which the parts below took over
  Normalizer normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<BpeModel> model_;
  std::unique_ptr<AddedTokenMatcher> raw_tokens_;         // found in the text as it is
  std::unique_ptr<AddedTokenMatcher> normalized_tokens_;  // found in the normalized text
  DecodeTraits traits_;
  std::vector<TokenEntry> entries_;  // [vocab_size]; ids that the file leaves out are empty
  TokenId bos_ = -1;
  TokenId eos_ = -1;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> HuggingFaceTokenizer::Create(
    TokenizerSpec spec, const SpecialTokenNames& names) {
  std::unique_ptr<HuggingFaceTokenizer> self(new HuggingFaceTokenizer(std::move(spec)));
  const std::vector<PreTokenizerStep>& steps = self->spec_.pre_tokenizer;
  const bool byte_level = !steps.empty() && steps.back().kind == PreTokenizerStep::Kind::kByteLevel;
  ASSIGN_OR_RETURN(self->pre_tokenizer_, PreTokenizer::Create(steps));
  ASSIGN_OR_RETURN(self->model_, BpeModel::Create(self->spec_.model, byte_level));
  RETURN_IF_ERROR(self->BuildEntries(names));
  self->BuildMatchers();
  self->spec_.model = {};
  return self;
}

absl::Status HuggingFaceTokenizer::BuildEntries(const SpecialTokenNames& names) {
  TokenId largest = 0;
  for (const auto& [piece, id] : spec_.model.vocab) largest = std::max(largest, id);
  for (const AddedTokenSpec& token : spec_.added_tokens) largest = std::max(largest, token.id);
  entries_.resize(static_cast<size_t>(largest) + 1);
  const auto add = [&](const std::string& piece, TokenId id, bool special) {
    TokenEntry& entry = entries_[static_cast<size_t>(id)];
    entry = {piece, DecodedBytes(spec_.decoder, piece), special};
    if (piece == names.bos) bos_ = id;
    if (piece == names.eos) eos_ = id;
  };
  for (const auto& [piece, id] : spec_.model.vocab) add(piece, id, false);
  for (const AddedTokenSpec& token : spec_.added_tokens) {
    add(token.content, token.id, token.special);
  }
  const auto missing = [](std::string_view key, const std::string& name) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer_config.json: field ", View(key),
                                                   ": \"", name, "\" is not in the vocabulary"));
  };
  if (!names.bos.empty() && bos_ < 0) return missing("bos_token", names.bos);
  if (!names.eos.empty() && eos_ < 0) return missing("eos_token", names.eos);
  for (const auto* ids_around : {&spec_.post_processor.prefix, &spec_.post_processor.suffix}) {
    for (const TokenId id : *ids_around) {
      if (id > largest) {
        return absl::InvalidArgumentError(
            absl::StrCat("field post_processor: token id ", id, " is not in the vocabulary"));
      }
    }
  }
  const DecoderSpec& decoder = spec_.decoder;
  traits_.strip_leading_spaces = decoder.strip_leading_spaces;
  traits_.first_token_drop = decoder.first_token_drop;
  traits_.replace_each_byte = decoder.byte_fallback;
  return absl::OkStatus();
}

void HuggingFaceTokenizer::BuildMatchers() {
  std::vector<AddedTokenSpec> raw;
  std::vector<AddedTokenSpec> normalized;
  std::vector<std::string> raw_contents;
  std::vector<std::string> normalized_contents;
  for (const AddedTokenSpec& token : spec_.added_tokens) {
    if (token.normalized) {
      std::string storage;
      normalized_contents.emplace_back(normalizer_.Apply(token.content, storage));
      normalized.push_back(token);
    } else {
      raw_contents.push_back(token.content);
      raw.push_back(token);
    }
  }
  raw_tokens_ = std::make_unique<AddedTokenMatcher>(std::move(raw), raw_contents);
  normalized_tokens_ =
      std::make_unique<AddedTokenMatcher>(std::move(normalized), normalized_contents);
}

std::vector<TokenId> HuggingFaceTokenizer::Encode(std::string_view text, bool add_special_tokens,
                                                  bool parse_special) const {
  std::string repaired;
  text = RepairUtf8(text, repaired);
  std::vector<TokenId> out;
  out.reserve(text.size() / 3 + 8);
  const PostProcessorSpec& around = spec_.post_processor;
  if (add_special_tokens) out.insert(out.end(), around.prefix.begin(), around.prefix.end());
  for (const AddedTokenMatcher::Section& section : raw_tokens_->Cut(text, parse_special)) {
    if (section.token >= 0) {
      out.push_back(section.token);
    } else {
      EncodePlain(section.text, section.text.data() == text.data(), parse_special, out);
    }
  }
  if (add_special_tokens) out.insert(out.end(), around.suffix.begin(), around.suffix.end());
  return out;
}

void HuggingFaceTokenizer::EncodePlain(std::string_view text, bool at_text_start,
                                       bool parse_special, std::vector<TokenId>& out) const {
  std::string storage;
  const std::string_view normalized = normalizer_.Apply(text, storage);
  PreTokenizer::Pieces pieces;
  for (const AddedTokenMatcher::Section& section :
       normalized_tokens_->Cut(normalized, parse_special)) {
    if (section.token >= 0) {
      out.push_back(section.token);
      continue;
    }
    const bool is_first = at_text_start && section.text.data() == normalized.data();
    pre_tokenizer_->Split(section.text, is_first, pieces);
    BpeModel::Encoder encoder(*model_, out);
    for (const std::string_view piece : pieces.views) encoder.Add(piece);
  }
}

std::string HuggingFaceTokenizer::Decode(std::span<const TokenId> tokens, bool skip_special) const {
  IncrementalDetokenizer detokenizer(*this, {}, skip_special);
  std::string out;
  for (const TokenId token : tokens) out += detokenizer.Push(token);
  return out + detokenizer.Finish();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& model_dir) {
  const std::string path = absl::StrCat(model_dir, "/tokenizer.json");
  ASSIGN_OR_RETURN(TokenizerSpec spec, ReadTokenizerJson(path));
  ASSIGN_OR_RETURN(const SpecialTokenNames names,
                   ReadTokenizerConfig(absl::StrCat(model_dir, "/tokenizer_config.json")));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      HuggingFaceTokenizer::Create(std::move(spec), names);
  if (!tokenizer.ok()) {
    return absl::Status(tokenizer.status().code(),
                        absl::StrCat(path, ": ", tokenizer.status().message()));
  }
  return tokenizer;
}

}  // namespace baton
