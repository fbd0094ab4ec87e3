#include "engine/tokenizer/tokenizer_json.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/json_field.h"
#include "engine/tokenizer/tokenizer_json_steps.h"

namespace baton {
namespace {

constexpr size_t kMaxTokenizerFileBytes = size_t{128} << 20;
constexpr size_t kMaxConfigFileBytes = size_t{16} << 20;
constexpr size_t kMaxAddedTokenBytes = 512;
constexpr size_t kMaxTokenBytes = 4096;

absl::StatusOr<AddedTokenSpec> ReadAddedToken(const JsonField& field) {
  RETURN_IF_ERROR(field.ExpectKeys(
      {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
  AddedTokenSpec token;
  ASSIGN_OR_RETURN(const JsonField id, field.Get("id"));
  ASSIGN_OR_RETURN(const int64_t id_value, id.Integer(0, kMaxTokenId));
  token.id = static_cast<TokenId>(id_value);
  ASSIGN_OR_RETURN(token.content, field.GetString("content"));
  if (token.content.empty() || token.content.size() > kMaxAddedTokenBytes) {
    return field.Error(absl::StrCat("content has ", token.content.size(), " bytes, 1 to ",
                                    kMaxAddedTokenBytes, " are allowed"));
  }
  ASSIGN_OR_RETURN(token.single_word, field.GetBool("single_word", false));
  ASSIGN_OR_RETURN(token.lstrip, field.GetBool("lstrip", false));
  ASSIGN_OR_RETURN(token.rstrip, field.GetBool("rstrip", false));
  ASSIGN_OR_RETURN(token.special, field.GetBool("special", false));
  ASSIGN_OR_RETURN(token.normalized, field.GetBool("normalized", !token.special));
  return token;
}

absl::Status ReadVocab(const JsonField& vocab, BpeSpec& model) {
  RETURN_IF_ERROR(vocab.ExpectObject());
  model.vocab.reserve(vocab.node().size());
  absl::flat_hash_set<TokenId> ids;
  for (const auto& [piece, id] : vocab.node().items()) {
    if (!id.is_number_integer() || id.is_number_float() || id.get<int64_t>() < 0 ||
        id.get<int64_t>() > kMaxTokenId) {
      return vocab.Error(
          absl::StrCat("the id of \"", piece, "\" must be an integer from 0 to ", kMaxTokenId));
    }
    if (piece.size() > kMaxTokenBytes) {
      return vocab.Error(absl::StrCat("a token of ", piece.size(), " bytes, at most ",
                                      kMaxTokenBytes, " are allowed"));
    }
    const auto token = id.get<TokenId>();
    if (!ids.insert(token).second) {
      return vocab.Error(absl::StrCat("id ", token, " is given twice, here to \"", piece, "\""));
    }
    model.vocab.emplace_back(piece, token);
  }
  if (model.vocab.empty()) return vocab.Error("is empty");
  return absl::OkStatus();
}

// A merge is "left right" or ["left", "right"].
absl::Status ReadMerges(const JsonField& merges, BpeSpec& model) {
  if (!merges.node().is_array()) return merges.Error("must be an array");
  model.merges.reserve(merges.node().size());
  for (const nlohmann::json& merge : merges.node()) {
    const auto fail = [&] {
      return merges.Error(absl::StrCat("element ", model.merges.size(),
                                       " must be \"left right\" or [\"left\", \"right\"]"));
    };
    if (merge.is_array()) {
      if (merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) return fail();
      model.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      if (!merge.is_string()) return fail();
      const auto& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        return fail();
      }
      model.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    }
  }
  return absl::OkStatus();
}

// Fields that must be absent, null, or a value that means "off".
absl::Status ExpectOff(const JsonField& model, std::string_view key) {
  const std::optional<JsonField> field = model.Find(key);
  if (!field) return absl::OkStatus();
  const nlohmann::json& node = field->node();
  if ((node.is_string() && node.get_ref<const std::string&>().empty()) ||
      (node.is_number() && node.get<double>() == 0.0)) {
    return absl::OkStatus();
  }
  return field->Error("is not supported; it must be null");
}

absl::StatusOr<BpeSpec> ReadModel(const JsonField& field) {
  RETURN_IF_ERROR(field.ExpectObject());
  if (const std::optional<JsonField> type = field.Find("type")) {
    ASSIGN_OR_RETURN(const std::string name, type->String());
    if (name != "BPE") return type->Error(absl::StrCat("\"", name, "\" is not supported, BPE is"));
  }
  RETURN_IF_ERROR(field.ExpectKeys({"type", "dropout", "unk_token", "continuing_subword_prefix",
                                    "end_of_word_suffix", "fuse_unk", "byte_fallback",
                                    "ignore_merges", "vocab", "merges"}));
  for (const std::string_view key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    RETURN_IF_ERROR(ExpectOff(field, key));
  }
  BpeSpec model;
  if (const std::optional<JsonField> unk = field.Find("unk_token")) {
    ASSIGN_OR_RETURN(model.unk_token, unk->String());
  }
  ASSIGN_OR_RETURN(model.fuse_unk, field.GetBool("fuse_unk", false));
  ASSIGN_OR_RETURN(model.byte_fallback, field.GetBool("byte_fallback", false));
  ASSIGN_OR_RETURN(model.ignore_merges, field.GetBool("ignore_merges", false));
  ASSIGN_OR_RETURN(const JsonField vocab, field.Get("vocab"));
  RETURN_IF_ERROR(ReadVocab(vocab, model));
  ASSIGN_OR_RETURN(const JsonField merges, field.Get("merges"));
  RETURN_IF_ERROR(ReadMerges(merges, model));
  return model;
}

// An added token is either a vocabulary entry with the same id, or has an id of its own.
absl::Status CheckAddedTokens(const JsonField& field, const TokenizerSpec& spec) {
  absl::flat_hash_map<std::string, TokenId> by_piece;
  absl::flat_hash_map<TokenId, std::string> by_id;
  const auto add = [&](const std::string& piece, TokenId id) -> absl::Status {
    const auto [piece_at, new_piece] = by_piece.try_emplace(piece, id);
    const auto [id_at, new_id] = by_id.try_emplace(id, piece);
    if ((!new_piece && piece_at->second != id) || (!new_id && id_at->second != piece)) {
      return field.Error(absl::StrCat("\"", piece, "\" with id ", id, " contradicts \"",
                                      id_at->second, "\" with id ", piece_at->second));
    }
    return absl::OkStatus();
  };
  for (const auto& [piece, id] : spec.model.vocab) RETURN_IF_ERROR(add(piece, id));
  for (const AddedTokenSpec& token : spec.added_tokens) {
    RETURN_IF_ERROR(add(token.content, token.id));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadTokenizerJson(const std::string& path) {
  ASSIGN_OR_RETURN(const nlohmann::json document, ReadJsonFile(path, kMaxTokenizerFileBytes));
  const JsonField top(document, path);
  RETURN_IF_ERROR(top.ExpectKeys({"version", "truncation", "padding", "added_tokens", "normalizer",
                                  "pre_tokenizer", "post_processor", "decoder", "model"}));
  TokenizerSpec spec;
  ASSIGN_OR_RETURN(const JsonField model, top.Get("model"));
  ASSIGN_OR_RETURN(spec.model, ReadModel(model));
  if (const std::optional<JsonField> added = top.Find("added_tokens")) {
    ASSIGN_OR_RETURN(const std::vector<JsonField> elements, added->Elements());
    for (const JsonField& element : elements) {
      ASSIGN_OR_RETURN(AddedTokenSpec token, ReadAddedToken(element));
      spec.added_tokens.push_back(std::move(token));
    }
    RETURN_IF_ERROR(CheckAddedTokens(*added, spec));
  }
  if (const std::optional<JsonField> normalizer = top.Find("normalizer")) {
    RETURN_IF_ERROR(ReadNormalizer(*normalizer, spec.normalizer));
  }
  if (const std::optional<JsonField> pre_tokenizer = top.Find("pre_tokenizer")) {
    RETURN_IF_ERROR(ReadPreTokenizer(*pre_tokenizer, spec.pre_tokenizer));
  }
  if (const std::optional<JsonField> post_processor = top.Find("post_processor")) {
    RETURN_IF_ERROR(ReadPostProcessor(*post_processor, spec.post_processor));
  }
  ASSIGN_OR_RETURN(const JsonField decoder, top.Get("decoder"));
  ASSIGN_OR_RETURN(spec.decoder, ReadDecoder(decoder));
  return spec;
}

absl::StatusOr<SpecialTokenNames> ReadTokenizerConfig(const std::string& path) {
  SpecialTokenNames names;
  absl::StatusOr<nlohmann::json> document = ReadJsonFile(path, kMaxConfigFileBytes);
  if (absl::IsNotFound(document.status())) return names;
  RETURN_IF_ERROR(document.status());
  const JsonField top(*document, path);
  RETURN_IF_ERROR(top.ExpectObject());
  // Each is null, the token's text, or an object with the text in "content".
  const auto read = [&top](std::string_view key) -> absl::StatusOr<std::string> {
    const std::optional<JsonField> field = top.Find(key);
    if (!field) return std::string();
    if (field->node().is_object()) return field->GetString("content");
    return field->String();
  };
  ASSIGN_OR_RETURN(names.bos, read("bos_token"));
  ASSIGN_OR_RETURN(names.eos, read("eos_token"));
  return names;
}

}  // namespace baton
