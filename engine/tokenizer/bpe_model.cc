#include "engine/tokenizer/bpe_model.h"

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

absl::Status MergeError(size_t index, const std::string& token) {
  return absl::InvalidArgumentError(
      absl::StrCat("field model.merges[", index, "]: \"", token, "\" is not in the vocabulary"));
}

// The one character that `piece` is, if it is one.
std::optional<char32_t> SingleCharacter(std::string_view piece) {
  if (piece.empty()) return std::nullopt;
  const Utf8Char c = DecodeUtf8(piece, 0);
  if (!c.valid || c.length_bytes != piece.size()) return std::nullopt;
  return c.code_point;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BpeModel>> BpeModel::Create(const BpeSpec& spec, bool byte_level) {
  auto model = std::make_unique<BpeModel>();
  model->byte_level_ = byte_level;
  model->fuse_unk_ = spec.fuse_unk;
  model->ignore_merges_ = spec.ignore_merges;
  model->byte_ids_.fill(-1);
  if (byte_level && spec.byte_fallback) {
    return absl::InvalidArgumentError(
        "field model.byte_fallback: is not supported with a ByteLevel pre-tokenizer");
  }
  model->byte_fallback_ = spec.byte_fallback;
  for (const auto& [piece, id] : spec.vocab) {
    if (!spec.unk_token.empty() && piece == spec.unk_token) model->unk_ = id;
    if (byte_level) {
      std::optional<std::string> bytes = BytesOfPiece(piece);
      if (!bytes || bytes->empty()) continue;  // no text spells it
      if (bytes->size() == 1) model->byte_ids_[static_cast<unsigned char>(bytes->front())] = id;
      if (spec.ignore_merges) model->words_.emplace(*std::move(bytes), id);
      continue;
    }
    if (const std::optional<char32_t> c = SingleCharacter(piece)) model->characters_[*c] = id;
    if (const std::optional<unsigned char> byte = ByteOfFallbackPiece(piece);
        byte && spec.byte_fallback) {
      model->byte_ids_[*byte] = id;
    }
    if (spec.ignore_merges) model->words_.emplace(piece, id);
  }
  if (!spec.unk_token.empty() && model->unk_ < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("field model.unk_token: \"", spec.unk_token, "\" is not in the vocabulary"));
  }
  if (absl::Status status = model->AddMerges(spec); !status.ok()) return status;
  if (!byte_level) model->FindJoints(spec);
  return model;
}

absl::Status BpeModel::AddMerges(const BpeSpec& spec) {
  absl::flat_hash_map<absl::string_view, TokenId> ids;
  ids.reserve(spec.vocab.size());
  for (const auto& [piece, id] : spec.vocab) ids.emplace(piece, id);
  merges_.reserve(spec.merges.size());
  std::string joined;
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const auto& [left, right] = spec.merges[i];
    const auto left_id = ids.find(left);
    if (left_id == ids.end()) return MergeError(i, left);
    const auto right_id = ids.find(right);
    if (right_id == ids.end()) return MergeError(i, right);
    joined.assign(left).append(right);
    const auto result = ids.find(joined);
    if (result == ids.end()) return MergeError(i, joined);
    // A merge given twice keeps its last rank, as in `tokenizers`.
    merges_[PairKey(static_cast<uint32_t>(left_id->second),
                    static_cast<uint32_t>(right_id->second))] =
        Merge{static_cast<int32_t>(i), result->second};
  }
  return absl::OkStatus();
}

void BpeModel::FindJoints(const BpeSpec& spec) {
  for (const auto& [left, right] : spec.merges) {
    // The symbols of a fallback or unknown token do not spell the text that they stand for.
    for (const std::string& part : {left, right}) {
      if (part == spec.unk_token || (byte_fallback_ && ByteOfFallbackPiece(part))) {
        joints_.clear();
        return;
      }
    }
    const std::string text = left + right;
    char32_t previous = 0;
    for (size_t pos = 0; pos < text.size();) {
      const Utf8Char c = DecodeUtf8(text, pos);
      if (pos > 0) joints_.insert(PairKey(previous, c.code_point));
      previous = c.code_point;
      pos += c.length_bytes;
    }
  }
  joints_known_ = true;
}

}  // namespace baton
