#include "engine/tokenizer/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

constexpr size_t kMaxPatternBytes = 16 << 10;
constexpr uint32_t kMaxGroupDepth = 50;

// The White_Space property, spelt for the inside of a character class. PCRE2's own \s differs from
// it by U+180E.
constexpr std::string_view kWhiteSpaceRanges =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// Rewrites an Oniguruma pattern for PCRE2, or refuses it.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Run() {
    for (; pos_ < pattern_.size(); ++pos_) {
      const char c = pattern_[pos_];
      if (c == '\\') {
        RETURN_IF_ERROR(Escape());
      } else if (in_class_) {
        RETURN_IF_ERROR(InClass(c));
      } else if (c == '[') {
        OpenClass();
      } else if (c == '^' || c == '$') {
        return Refuse("the anchor");
      } else if ((c == '{' && Peek(1) == ',') || (c == '}' && Peek(1) == '+')) {
        return Refuse("the repeat");
      } else if (c == '(' && Peek(1) == '?' && !GroupIsPlain()) {
        return Refuse("the group");
      } else {
        out_.push_back(c);
      }
    }
    if (in_class_) return absl::InvalidArgumentError("the pattern ends inside a class");
    return std::move(out_);
  }

 private:
  char Peek(size_t ahead) const {
    return pos_ + ahead < pattern_.size() ? pattern_[pos_ + ahead] : '\0';
  }

  absl::Status Refuse(std::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(View(what), " \"",
                                                   View(pattern_.substr(pos_, 3)), "\" at byte ",
                                                   pos_, " is not supported"));
  }

  void OpenClass() {
    in_class_ = true;
    out_.push_back('[');
    if (Peek(1) == '^') {
      out_.push_back('^');
      ++pos_;
    }
    class_begin_ = pos_ + 1;
  }

  absl::Status InClass(char c) {
    if (c == '[') return Refuse("a class inside a class");
    if (c == '&' && Peek(1) == '&') return Refuse("the class intersection");
    if (c == ']') {
      if (pos_ == class_begin_) return Refuse("the empty class");
      in_class_ = false;
    }
    out_.push_back(c);
    return absl::OkStatus();
  }

  // (?:  (?=  (?!  (?<=  (?<!  (?>  (?i:
  bool GroupIsPlain() const {
    const char kind = Peek(2);
    if (kind == '<') return Peek(3) == '=' || Peek(3) == '!';
    if (kind == 'i') return Peek(3) == ':';
    return kind == ':' || kind == '=' || kind == '!' || kind == '>';
  }

  absl::Status Escape() {
    const char kind = Peek(1);
    if (kind == '\0') return absl::InvalidArgumentError("the pattern ends in a backslash");
    const bool is_word_character = (kind >= '0' && kind <= '9') || (kind >= 'a' && kind <= 'z') ||
                                   (kind >= 'A' && kind <= 'Z') ||
                                   static_cast<unsigned char>(kind) >= 0x80;
    if (kind == 's') {
      absl::StrAppend(&out_, in_class_ ? "" : "[", View(kWhiteSpaceRanges), in_class_ ? "" : "]");
    } else if (kind == 'S' && !in_class_) {
      absl::StrAppend(&out_, "[^", View(kWhiteSpaceRanges), "]");
    } else if (!is_word_character ||
               std::string_view("pPdDrntf").find(kind) != std::string_view::npos) {
      out_.push_back('\\');
      out_.push_back(kind);
      const size_t close = pattern_.find('}', pos_);
      if ((kind == 'p' || kind == 'P') && Peek(2) == '{' && close != std::string_view::npos) {
        out_.append(pattern_.substr(pos_ + 2, close - pos_ - 1));
        pos_ = close - 1;
      }
    } else {
      return Refuse("the escape");
    }
    ++pos_;
    return absl::OkStatus();
  }

  std::string_view pattern_;
  size_t pos_ = 0;
  bool in_class_ = false;
  size_t class_begin_ = 0;
  std::string out_;
};

}  // namespace

struct SplitPattern::Impl {
  pcre2_code* code = nullptr;
  ~Impl() { pcre2_code_free(code); }
};

struct SplitPattern::Scanner::Impl {
  const pcre2_code* code;
  std::string_view text;
  pcre2_match_data* match_data;
  size_t pos = 0;
  ~Impl() { pcre2_match_data_free(match_data); }
};

SplitPattern::SplitPattern(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SplitPattern::~SplitPattern() = default;

absl::StatusOr<std::unique_ptr<SplitPattern>> SplitPattern::Compile(
    std::string_view oniguruma_pattern) {
  if (oniguruma_pattern.size() > kMaxPatternBytes || !IsValidUtf8(oniguruma_pattern)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the pattern must be UTF-8 of at most ", kMaxPatternBytes, " bytes"));
  }
  ASSIGN_OR_RETURN(const std::string pattern, Translator(oniguruma_pattern).Run());
  int error = 0;
  PCRE2_SIZE error_at = 0;
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_parens_nest_limit(context, kMaxGroupDepth);
  auto impl = std::make_unique<Impl>();
  impl->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             PCRE2_UTF | PCRE2_UCP, &error, &error_at, context);
  pcre2_compile_context_free(context);
  if (impl->code == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::InvalidArgumentError(
        absl::StrCat("the pattern does not compile: ", reinterpret_cast<const char*>(message)));
  }
  uint32_t matches_empty = 0;
  pcre2_pattern_info(impl->code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) {
    return absl::InvalidArgumentError("the pattern can match the empty text");
  }
  // Where the JIT is not available pcre2_match interprets: slower, the same matches.
  pcre2_jit_compile(impl->code, PCRE2_JIT_COMPLETE);
  return std::unique_ptr<SplitPattern>(new SplitPattern(std::move(impl)));
}

SplitPattern::Scanner::Scanner(const SplitPattern& pattern, std::string_view text)
    : impl_(new Impl{pattern.impl_->code, text,
                     pcre2_match_data_create_from_pattern(pattern.impl_->code, nullptr)}) {
  BATON_CHECK(impl_->match_data != nullptr) << "out of memory";
}
SplitPattern::Scanner::~Scanner() = default;

bool SplitPattern::Scanner::Next(Match& match) {
  if (impl_->pos >= impl_->text.size()) return false;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(impl_->text.data());
  // The text is known to be well-formed, and a check for every match would be quadratic.
  int result = pcre2_match(impl_->code, subject, impl_->text.size(), impl_->pos, PCRE2_NO_UTF_CHECK,
                           impl_->match_data, nullptr);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
    // The interpreter backtracks on the heap.
    result = pcre2_match(impl_->code, subject, impl_->text.size(), impl_->pos,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, impl_->match_data, nullptr);
  }
  if (result < 0) return false;
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(impl_->match_data);
  match = {offsets[0], offsets[1]};
  // A match is not empty (checked at Compile), save for oddities of look-behind.
  if (match.end <= match.begin || match.begin < impl_->pos) return false;
  impl_->pos = match.end;
  return true;
}

}  // namespace baton
