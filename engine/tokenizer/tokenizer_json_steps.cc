#include "engine/tokenizer/tokenizer_json_steps.h"

#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace baton {
namespace {

constexpr size_t kMaxSteps = 32;

absl::Status UnsupportedType(const JsonField& field, const std::string& type) {
  return field.Error(absl::StrCat("type \"", type, "\" is not supported"));
}

// Calls `read` for `field`, or for each element of its `list_key` when it is a Sequence.
// Sequences do not nest in any file in use.
absl::Status ForEachStep(
    const JsonField& field, std::string_view list_key,
    const std::function<absl::Status(const JsonField&, const std::string&)>& read) {
  ASSIGN_OR_RETURN(const std::string type, field.GetString("type"));
  if (type != "Sequence") return read(field, type);
  RETURN_IF_ERROR(field.ExpectKeys({"type", list_key}));
  ASSIGN_OR_RETURN(const JsonField list, field.Get(list_key));
  ASSIGN_OR_RETURN(const std::vector<JsonField> elements, list.Elements());
  if (elements.size() > kMaxSteps) {
    return list.Error(absl::StrCat("has ", elements.size(), " steps, at most ", kMaxSteps));
  }
  for (const JsonField& element : elements) {
    ASSIGN_OR_RETURN(const std::string element_type, element.GetString("type"));
    RETURN_IF_ERROR(read(element, element_type));
  }
  return absl::OkStatus();
}

struct Pattern {
  std::string text;
  bool is_regex = false;
};

// {"String": "…"} or {"Regex": "…"}.
absl::StatusOr<Pattern> ReadPattern(const JsonField& step) {
  ASSIGN_OR_RETURN(const JsonField field, step.Get("pattern"));
  RETURN_IF_ERROR(field.ExpectKeys({"String", "Regex"}));
  if (field.node().size() != 1) return field.Error("must have one of \"String\" and \"Regex\"");
  Pattern pattern;
  pattern.is_regex = field.Find("Regex").has_value();
  ASSIGN_OR_RETURN(pattern.text, field.GetString(pattern.is_regex ? "Regex" : "String"));
  if (pattern.text.empty()) return field.Error("is empty");
  return pattern;
}

absl::StatusOr<std::string> ReadLiteralPattern(const JsonField& step) {
  ASSIGN_OR_RETURN(Pattern pattern, ReadPattern(step));
  if (pattern.is_regex) return step.Error("a Regex pattern is not supported here");
  return std::move(pattern.text);
}

absl::StatusOr<SplitBehavior> ReadBehavior(const JsonField& step) {
  ASSIGN_OR_RETURN(const std::string name, step.GetString("behavior"));
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return step.Error(absl::StrCat("behavior \"", name, "\" is not supported"));
}

// Files before `tokenizers` 0.15 have "add_prefix_space" in place of "prepend_scheme".
absl::StatusOr<PrependScheme> ReadPrependScheme(const JsonField& step) {
  if (!step.Find("prepend_scheme")) {
    ASSIGN_OR_RETURN(const bool prepend, step.GetBool("add_prefix_space", true));
    return prepend ? PrependScheme::kAlways : PrependScheme::kNever;
  }
  ASSIGN_OR_RETURN(const std::string name, step.GetString("prepend_scheme"));
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  return step.Error(absl::StrCat("prepend_scheme \"", name, "\" is not supported"));
}

absl::Status ExpectMetaspaceKeys(const JsonField& step) {
  return step.ExpectKeys(
      {"type", "replacement", "prepend_scheme", "add_prefix_space", "split", "str_rep"});
}

absl::StatusOr<PreTokenizerStep> ReadPreTokenizerStep(const JsonField& field,
                                                      const std::string& type) {
  PreTokenizerStep step;
  step.field = field.path();
  if (type == "Split") {
    RETURN_IF_ERROR(field.ExpectKeys({"type", "pattern", "behavior", "invert"}));
    step.kind = PreTokenizerStep::Kind::kSplit;
    ASSIGN_OR_RETURN(Pattern pattern, ReadPattern(field));
    step.pattern = std::move(pattern.text);
    step.pattern_is_regex = pattern.is_regex;
    ASSIGN_OR_RETURN(step.behavior, ReadBehavior(field));
    ASSIGN_OR_RETURN(step.invert, field.GetBool("invert", false));
  } else if (type == "Digits") {
    RETURN_IF_ERROR(field.ExpectKeys({"type", "individual_digits"}));
    step.kind = PreTokenizerStep::Kind::kDigits;
    ASSIGN_OR_RETURN(step.individual_digits, field.GetBool("individual_digits", false));
  } else if (type == "Metaspace") {
    RETURN_IF_ERROR(ExpectMetaspaceKeys(field));
    step.kind = PreTokenizerStep::Kind::kMetaspace;
    ASSIGN_OR_RETURN(step.replacement, field.GetString("replacement"));
    if (step.replacement.empty()) return field.Error("replacement is empty");
    ASSIGN_OR_RETURN(step.prepend_scheme, ReadPrependScheme(field));
    ASSIGN_OR_RETURN(step.split, field.GetBool("split", true));
  } else if (type == "ByteLevel") {
    RETURN_IF_ERROR(field.ExpectKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"}));
    step.kind = PreTokenizerStep::Kind::kByteLevel;
    ASSIGN_OR_RETURN(step.add_prefix_space, field.GetBool("add_prefix_space", true));
    ASSIGN_OR_RETURN(step.use_regex, field.GetBool("use_regex", true));
  } else {
    return UnsupportedType(field, type);
  }
  return step;
}

// The "single" template: special tokens around one Sequence "A".
absl::Status ReadTemplate(const JsonField& field, PostProcessorSpec& spec) {
  RETURN_IF_ERROR(field.ExpectKeys({"type", "single", "pair", "special_tokens"}));
  ASSIGN_OR_RETURN(const JsonField special_tokens, field.Get("special_tokens"));
  RETURN_IF_ERROR(special_tokens.ExpectObject());
  ASSIGN_OR_RETURN(const JsonField single, field.Get("single"));
  ASSIGN_OR_RETURN(const std::vector<JsonField> pieces, single.Elements());
  bool after_text = false;
  for (const JsonField& piece : pieces) {
    RETURN_IF_ERROR(piece.ExpectKeys({"SpecialToken", "Sequence"}));
    if (const std::optional<JsonField> sequence = piece.Find("Sequence")) {
      ASSIGN_OR_RETURN(const std::string id, sequence->GetString("id"));
      if (id != "A" || after_text) return sequence->Error("must be \"A\", once");
      after_text = true;
      continue;
    }
    ASSIGN_OR_RETURN(const JsonField token, piece.Get("SpecialToken"));
    ASSIGN_OR_RETURN(const std::string name, token.GetString("id"));
    ASSIGN_OR_RETURN(const JsonField entry, special_tokens.Get(name));
    ASSIGN_OR_RETURN(const JsonField ids, entry.Get("ids"));
    ASSIGN_OR_RETURN(const std::vector<JsonField> elements, ids.Elements());
    for (const JsonField& element : elements) {
      ASSIGN_OR_RETURN(const int64_t id, element.Integer(0, kMaxTokenId));
      (after_text ? spec.suffix : spec.prefix).push_back(static_cast<TokenId>(id));
    }
  }
  if (!after_text) return single.Error("has no Sequence \"A\"");
  return absl::OkStatus();
}

// The parts of a SentencePiece-style decoder Sequence must come in the one order that files use:
// Replace*, ByteFallback?, Fuse, Strip?.
absl::Status ReadDecoderStep(const JsonField& field, const std::string& type, bool& fused,
                             DecoderSpec& decoder) {
  const auto out_of_order = [&] { return field.Error("is not supported at this place"); };
  if (type == "Replace") {
    RETURN_IF_ERROR(field.ExpectKeys({"type", "pattern", "content"}));
    if (fused || decoder.byte_fallback) return out_of_order();
    ASSIGN_OR_RETURN(std::string pattern, ReadLiteralPattern(field));
    ASSIGN_OR_RETURN(std::string content, field.GetString("content"));
    decoder.replacements.emplace_back(std::move(pattern), std::move(content));
  } else if (type == "ByteFallback") {
    RETURN_IF_ERROR(field.ExpectKeys({"type"}));
    if (fused) return out_of_order();
    decoder.byte_fallback = true;
  } else if (type == "Fuse") {
    RETURN_IF_ERROR(field.ExpectKeys({"type"}));
    fused = true;
  } else if (type == "Strip") {
    RETURN_IF_ERROR(field.ExpectKeys({"type", "content", "start", "stop"}));
    if (!fused || decoder.strip_leading_spaces != 0) return out_of_order();
    ASSIGN_OR_RETURN(const std::string content, field.GetString("content"));
    if (content != " ") return field.Error("content must be one space");
    ASSIGN_OR_RETURN(const JsonField stop, field.Get("stop"));
    RETURN_IF_ERROR(stop.Integer(0, 0).status());
    ASSIGN_OR_RETURN(const JsonField start, field.Get("start"));
    ASSIGN_OR_RETURN(const int64_t count, start.Integer(0, 1024));
    decoder.strip_leading_spaces = static_cast<int32_t>(count);
  } else {
    return UnsupportedType(field, type);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadNormalizer(const JsonField& field, std::vector<NormalizerStep>& steps) {
  return ForEachStep(field, "normalizers",
                     [&](const JsonField& step, const std::string& type) -> absl::Status {
                       NormalizerStep& out = steps.emplace_back();
                       if (type == "NFC") {
                         RETURN_IF_ERROR(step.ExpectKeys({"type"}));
                         out.kind = NormalizerStep::Kind::kNfc;
                       } else if (type == "Prepend") {
                         RETURN_IF_ERROR(step.ExpectKeys({"type", "prepend"}));
                         out.kind = NormalizerStep::Kind::kPrepend;
                         ASSIGN_OR_RETURN(out.content, step.GetString("prepend"));
                       } else if (type == "Replace") {
                         RETURN_IF_ERROR(step.ExpectKeys({"type", "pattern", "content"}));
                         out.kind = NormalizerStep::Kind::kReplace;
                         ASSIGN_OR_RETURN(out.pattern, ReadLiteralPattern(step));
                         ASSIGN_OR_RETURN(out.content, step.GetString("content"));
                       } else {
                         return UnsupportedType(step, type);
                       }
                       return absl::OkStatus();
                     });
}

absl::Status ReadPreTokenizer(const JsonField& field, std::vector<PreTokenizerStep>& steps) {
  return ForEachStep(
      field, "pretokenizers", [&](const JsonField& step, const std::string& type) -> absl::Status {
        if (!steps.empty() && steps.back().kind == PreTokenizerStep::Kind::kByteLevel) {
          return step.Error("ByteLevel must be the last step");
        }
        ASSIGN_OR_RETURN(PreTokenizerStep out, ReadPreTokenizerStep(step, type));
        steps.push_back(std::move(out));
        return absl::OkStatus();
      });
}

absl::Status ReadPostProcessor(const JsonField& field, PostProcessorSpec& spec) {
  bool has_template = false;
  return ForEachStep(field, "processors",
                     [&](const JsonField& step, const std::string& type) -> absl::Status {
                       // ByteLevel moves offsets only, and Baton has none.
                       if (type == "ByteLevel") return absl::OkStatus();
                       if (type != "TemplateProcessing") return UnsupportedType(step, type);
                       if (has_template)
                         return step.Error("a second TemplateProcessing is not supported");
                       has_template = true;
                       return ReadTemplate(step, spec);
                     });
}

absl::StatusOr<DecoderSpec> ReadDecoder(const JsonField& field) {
  DecoderSpec decoder;
  ASSIGN_OR_RETURN(const std::string type, field.GetString("type"));
  if (type == "ByteLevel") return decoder;
  decoder.kind = DecoderSpec::Kind::kSentencePiece;
  if (type == "Metaspace") {
    RETURN_IF_ERROR(ExpectMetaspaceKeys(field));
    ASSIGN_OR_RETURN(const std::string replacement, field.GetString("replacement"));
    if (replacement.empty()) return field.Error("replacement is empty");
    decoder.replacements.emplace_back(replacement, " ");
    ASSIGN_OR_RETURN(const PrependScheme scheme, ReadPrependScheme(field));
    if (scheme != PrependScheme::kNever) decoder.first_token_drop = replacement;
    return decoder;
  }
  bool fused = false;
  size_t steps = 0;
  RETURN_IF_ERROR(
      ForEachStep(field, "decoders", [&](const JsonField& step, const std::string& step_type) {
        ++steps;
        return ReadDecoderStep(step, step_type, fused, decoder);
      }));
  if (steps == 0) return field.Error("has no steps");
  return decoder;
}

}  // namespace baton
