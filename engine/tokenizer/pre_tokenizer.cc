#include "engine/tokenizer/pre_tokenizer.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/literal_replace.h"

namespace baton {
namespace {

// GPT-2's pattern, which ByteLevel with "use_regex" applies.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Span {
  std::string_view text;
  bool is_match = false;
};

// Gathers spans into pieces as `behavior` asks.
class Gatherer {
 public:
  Gatherer(SplitBehavior behavior, std::vector<std::string_view>& out)
      : behavior_(behavior), out_(out) {}

  void Add(Span span) {
    if (span.text.empty()) return;
    switch (behavior_) {
      case SplitBehavior::kRemoved:
        if (!span.is_match) out_.push_back(span.text);
        break;
      case SplitBehavior::kIsolated:
        out_.push_back(span.text);
        break;
      case SplitBehavior::kMergedWithPrevious:
        AddMerged(span, span.is_match && has_open_ && !open_is_match_);
        break;
      case SplitBehavior::kMergedWithNext:
        AddMerged(span, !span.is_match && has_open_ && open_is_match_);
        break;
      case SplitBehavior::kContiguous:
        AddMerged(span, has_open_ && open_is_match_ == span.is_match);
        break;
    }
  }

 private:
  // `joins`: the span continues the last piece, which ends where the span begins.
  void AddMerged(Span span, bool joins) {
    if (joins) {
      std::string_view& last = out_.back();
      last = {last.data(), last.size() + span.text.size()};
    } else {
      out_.push_back(span.text);
    }
    has_open_ = true;
    open_is_match_ = span.is_match;
  }

  SplitBehavior behavior_;
  std::vector<std::string_view>& out_;
  bool has_open_ = false;
  bool open_is_match_ = false;
};

template <typename NextMatch>
void GatherAll(std::string_view text, bool invert, NextMatch next, Gatherer& gatherer) {
  size_t done = 0;
  SplitPattern::Match match;
  while (next(match)) {
    gatherer.Add({text.substr(done, match.begin - done), invert});
    gatherer.Add({text.substr(match.begin, match.end - match.begin), !invert});
    done = match.end;
  }
  gatherer.Add({text.substr(done), invert});
}

void SplitPiece(std::string_view text, const PreTokenizerStep& spec, const SplitPattern* pattern,
                std::vector<std::string_view>& out) {
  Gatherer gatherer(spec.behavior, out);
  if (pattern != nullptr) {
    SplitPattern::Scanner scanner(*pattern, text);
    GatherAll(
        text, spec.invert, [&](SplitPattern::Match& m) { return scanner.Next(m); }, gatherer);
    return;
  }
  size_t from = 0;
  GatherAll(
      text, spec.invert,
      [&](SplitPattern::Match& m) {
        m.begin = text.find(spec.pattern, from);
        if (m.begin == std::string_view::npos) return false;
        from = m.end = m.begin + spec.pattern.size();
        return true;
      },
      gatherer);
}

// The splitting part of a step, in terms of kSplit. ByteLevel without its regex has none.
PreTokenizerStep AsSplit(const PreTokenizerStep& step) {
  PreTokenizerStep split = step;
  switch (step.kind) {
    case PreTokenizerStep::Kind::kSplit:
      break;
    case PreTokenizerStep::Kind::kDigits:
      split.pattern = step.individual_digits ? R"(\p{N})" : R"(\p{N}+)";
      split.pattern_is_regex = true;
      split.behavior = SplitBehavior::kIsolated;
      break;
    case PreTokenizerStep::Kind::kMetaspace:
      split.pattern = step.split ? step.replacement : "";
      split.behavior = SplitBehavior::kMergedWithNext;
      break;
    case PreTokenizerStep::Kind::kByteLevel:
      split.pattern = step.use_regex ? kGpt2Pattern : "";
      split.pattern_is_regex = step.use_regex;
      split.behavior = SplitBehavior::kIsolated;
      break;
  }
  return split;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PreTokenizer>> PreTokenizer::Create(
    const std::vector<PreTokenizerStep>& steps) {
  auto pre_tokenizer = std::make_unique<PreTokenizer>();
  for (const PreTokenizerStep& spec : steps) {
    Step step{AsSplit(spec), nullptr};
    if (step.spec.pattern_is_regex) {
      absl::StatusOr<std::unique_ptr<SplitPattern>> pattern =
          SplitPattern::Compile(step.spec.pattern);
      if (!pattern.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat("field ", spec.field, ": ", pattern.status().message()));
      }
      step.pattern = *std::move(pattern);
    }
    pre_tokenizer->steps_.push_back(std::move(step));
  }
  return pre_tokenizer;
}

void PreTokenizer::SplitMetaspace(const PreTokenizerStep& spec, bool at_text_start,
                                  Pieces& pieces) const {
  for (size_t i = 0; i < pieces.views.size(); ++i) {
    std::string changed;
    const std::string_view replaced =
        ReplaceLiteral(pieces.views[i], " ", spec.replacement, changed);
    const bool wants_prefix =
        spec.prepend_scheme == PrependScheme::kAlways ||
        (spec.prepend_scheme == PrependScheme::kFirst && at_text_start && i == 0);
    if (wants_prefix && !replaced.starts_with(spec.replacement)) {
      pieces.views[i] = pieces.storage.emplace_back(absl::StrCat(spec.replacement, View(replaced)));
    } else if (replaced.data() == changed.data()) {
      pieces.views[i] = pieces.storage.emplace_back(std::move(changed));
    }
  }
}

void PreTokenizer::Split(std::string_view text, bool at_text_start, Pieces& pieces) const {
  pieces.views.clear();
  pieces.storage.clear();
  if (text.empty()) return;
  pieces.views.push_back(text);
  std::vector<std::string_view> next;
  for (const Step& step : steps_) {
    const PreTokenizerStep& spec = step.spec;
    if (spec.kind == PreTokenizerStep::Kind::kMetaspace) {
      SplitMetaspace(spec, at_text_start, pieces);
    } else if (spec.kind == PreTokenizerStep::Kind::kByteLevel && spec.add_prefix_space) {
      for (std::string_view& piece : pieces.views) {
        if (piece.front() == ' ') continue;
        piece = pieces.storage.emplace_back(absl::StrCat(" ", View(piece)));
      }
    }
    if (step.pattern == nullptr && spec.pattern.empty()) continue;
    next.clear();
    for (const std::string_view piece : pieces.views) {
      SplitPiece(piece, spec, step.pattern.get(), next);
    }
    pieces.views.swap(next);
  }
}

}  // namespace baton
