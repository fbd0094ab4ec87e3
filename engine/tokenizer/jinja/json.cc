#include "engine/tokenizer/jinja/json.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/check.h"
#include "engine/tokenizer/jinja/text.h"
#include "engine/tokenizer/unicode/utf8.h"
#include "nlohmann/json.hpp"

namespace baton::jinja {
namespace {

// Builds values as the parser meets them, so that no second tree is made.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return Add(Value()); }
  bool boolean(bool value) override { return Add(Value::Bool(value)); }
  bool number_integer(number_integer_t value) override { return Add(Value::Int(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(INT64_MAX)) return Fail("an integer is too large");
    return Add(Value::Int(static_cast<int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (text.find_first_of(".eE") == string_t::npos) return Fail("an integer is too large");
    return Add(Value::Float(value));
  }
  bool string(string_t& text) override { return Add(Value::String(std::move(text))); }
  bool binary(binary_t&) override { return Fail("binary values are not JSON"); }
  bool start_object(size_t) override { return Open(true); }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(false); }
  bool end_array() override { return Close(); }
  bool key(string_t& name) override {
    open_.back().key = std::move(name);
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return Fail(absl::StrCat("a syntax error near byte ", position));
  }

  Value TakeResult() { return std::move(result_); }
  const std::string& error() const { return error_; }

 private:
  struct Container {
    bool is_object = false;
    Dict dict;
    Items items;
    std::string key;
  };

  bool Fail(std::string message) {
    if (error_.empty()) error_ = std::move(message);
    return false;
  }
  bool Open(bool is_object) {
    if (open_.size() >= static_cast<size_t>(kMaxValueDepth)) {
      return Fail(absl::StrCat("nested deeper than ", kMaxValueDepth, " levels"));
    }
    open_.emplace_back().is_object = is_object;
    return true;
  }
  bool Close() {
    Container closed = std::move(open_.back());
    open_.pop_back();
    return Add(closed.is_object ? Value::NewDict(std::move(closed.dict))
                                : Value::NewList(std::move(closed.items)));
  }
  bool Add(Value value) {
    if (open_.empty()) {
      result_ = std::move(value);
    } else if (open_.back().is_object) {
      open_.back().dict.Set(std::move(open_.back().key), std::move(value));
    } else {
      open_.back().items.push_back(std::move(value));
    }
    return true;
  }

  std::vector<Container> open_;
  Value result_;
  std::string error_;
};

void AppendJsonString(std::string_view text, bool ensure_ascii, std::string& out) {
  out.push_back('"');
  for (size_t pos = 0; pos < text.size();) {
    const Utf8Char c = DecodeUtf8(text, pos);
    const auto code = static_cast<uint32_t>(c.code_point);
    static constexpr std::string_view kPlain = "\"\\\n\r\t\b\f";
    static constexpr std::string_view kEscaped = "\"\\nrtbf";
    const size_t at = code < 0x80 ? kPlain.find(static_cast<char>(code)) : std::string_view::npos;
    if (at != std::string_view::npos) {
      out.push_back('\\');
      out.push_back(kEscaped[at]);
    } else if (code < 0x20 || (ensure_ascii && code > 0x7E && code < 0x10000 && code != 0x7F)) {
      absl::StrAppendFormat(&out, "\\u%04x", code);
    } else if (ensure_ascii && code >= 0x10000) {
      absl::StrAppendFormat(&out, "\\u%04x\\u%04x", 0xD800 + ((code - 0x10000) >> 10),
                            0xDC00 + ((code - 0x10000) & 0x3FF));
    } else {
      out.append(text.substr(pos, c.length_bytes));
    }
    pos += c.length_bytes;
  }
  out.push_back('"');
}

class Dumper {
 public:
  explicit Dumper(const JsonStyle& style) : style_(style) {}

  absl::Status Append(const Value& value, int level) {
    if (out_.size() > kMaxTextBytes) return TextTooLong();
    switch (value.kind()) {
      case Value::Kind::kNone:
        out_ += "null";
        return absl::OkStatus();
      case Value::Kind::kBool:
        out_ += value.boolean() ? "true" : "false";
        return absl::OkStatus();
      case Value::Kind::kInt:
        absl::StrAppend(&out_, value.integer());
        return absl::OkStatus();
      case Value::Kind::kFloat:
        AppendFloat(value.number());
        return absl::OkStatus();
      case Value::Kind::kString:
        AppendJsonString(value.text(), style_.ensure_ascii, out_);
        return absl::OkStatus();
      case Value::Kind::kList:
        return AppendList(value.items(), level);
      case Value::Kind::kDict:
        return AppendDict(value.dict(), level);
      case Value::Kind::kUndefined:
        return absl::InvalidArgumentError(value.missing());
      default:
        return absl::InvalidArgumentError(
            absl::StrCat("a ", std::string(value.TypeName()), " is not JSON serializable"));
    }
  }
  std::string Take() { return std::move(out_); }

 private:
  void AppendFloat(double value) {
    if (std::isnan(value)) {
      out_ += "NaN";
    } else if (std::isinf(value)) {
      out_ += value < 0 ? "-Infinity" : "Infinity";
    } else {
      out_ += FloatRepr(value);
    }
  }
  void NewLine(int level) {
    if (!style_.indent) return;
    out_.push_back('\n');
    for (int i = 0; i < level; ++i) out_ += *style_.indent;
  }
  absl::Status AppendList(const Items& items, int level) {
    out_.push_back('[');
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      NewLine(level + 1);
      RETURN_IF_ERROR(Append(items[i], level + 1));
    }
    if (!items.empty()) NewLine(level);
    out_.push_back(']');
    return absl::OkStatus();
  }
  absl::Status AppendDict(const Dict& dict, int level) {
    std::vector<const std::pair<std::string, Value>*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::sort(entries.begin(), entries.end(),
                [](const auto* a, const auto* b) { return a->first < b->first; });
    }
    out_.push_back('{');
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      NewLine(level + 1);
      AppendJsonString(entries[i]->first, style_.ensure_ascii, out_);
      out_ += style_.key_separator;
      RETURN_IF_ERROR(Append(entries[i]->second, level + 1));
    }
    if (!entries.empty()) NewLine(level);
    out_.push_back('}');
    return absl::OkStatus();
  }

  const JsonStyle& style_;
  std::string out_;
};

}  // namespace

absl::StatusOr<Value> ParseJson(std::string_view text) {
  Builder builder;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
    return absl::InvalidArgumentError(
        absl::StrCat("chat template context: ",
                     builder.error().empty() ? std::string("not valid JSON") : builder.error()));
  }
  return builder.TakeResult();
}

absl::StatusOr<std::string> DumpJson(const Value& value, const JsonStyle& style) {
  Dumper dumper(style);
  RETURN_IF_ERROR(dumper.Append(value, 0));
  return dumper.Take();
}

}  // namespace baton::jinja
