// Structured logging: one event, then fields. Text or JSON lines on stderr. spdlog does the work.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "common/ids.h"

namespace baton {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// A key and its value, rendered when the line is written. Never put prompts, tokens, keys or
// authorization headers here.
// Implicit, so that call sites read {{"port", port}}. NOLINTBEGIN(google-explicit-constructor)
struct LogField {
  template <typename T>
  LogField(std::string_view name, const T& field_value)
      : key(name), value(absl::StrCat(field_value)) {}
  LogField(std::string_view name, std::string_view text) : key(name), value(text) {}
  LogField(std::string_view name, RequestId id) : key(name), value(absl::StrCat(id.value())) {}
  LogField(std::string_view name, const RequestKey& request)
      : key(name), value(absl::StrCat(request.request.value(), "/", request.attempt)) {}

  std::string_view key;
  std::string value;
};
// NOLINTEND(google-explicit-constructor)

// Thread-safe. Passed by reference to whoever logs; there is no global logger.
class Logger {
 public:
  // `process` is printed on each line: "router", "prefill-0".
  Logger(std::string process, LogLevel level, LogFormat format);
  ~Logger();

  void Debug(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kDebug, event, fields);
  }
  void Info(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kInfo, event, fields);
  }
  void Warning(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kWarning, event, fields);
  }
  void Error(std::string_view event, std::initializer_list<LogField> fields = {}) {
    Write(LogLevel::kError, event, fields);
  }
  void Write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace baton
