#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/strings.h"

namespace baton {
namespace {

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "info";
}

bool NeedsQuotes(std::string_view value) {
  if (value.empty()) return true;
  for (const char c : value) {
    if (c == ' ' || c == '"' || c == '=' || static_cast<unsigned char>(c) < 0x20) return true;
  }
  return false;
}

std::string Quoted(std::string_view value) {
  return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

struct Logger::Impl {
  std::string process;
  LogFormat format;
  spdlog::logger logger;
};

Logger::Logger(std::string process, LogLevel level, LogFormat format)
    : impl_(new Impl{
          process, format,
          spdlog::logger(std::move(process), std::make_shared<spdlog::sinks::stderr_sink_mt>())}) {
  impl_->logger.set_level(ToSpdlog(level));
  impl_->logger.flush_on(spdlog::level::debug);
  impl_->logger.set_pattern(format == LogFormat::kJson ? "%v" : "%Y-%m-%d %H:%M:%S.%e %L %n  %v");
}

Logger::~Logger() = default;

void Logger::Write(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  const auto spdlog_level = ToSpdlog(level);
  if (!impl_->logger.should_log(spdlog_level)) return;
  if (impl_->format == LogFormat::kJson) {
    nlohmann::ordered_json line;
    line["time"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
    line["level"] = LevelName(level);
    line["process"] = impl_->process;
    line["event"] = event;
    for (const LogField& field : fields) line[std::string(field.key)] = field.value;
    impl_->logger.log(spdlog_level, "{}",
                      line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return;
  }
  std::string line(event);
  for (const LogField& field : fields) {
    absl::StrAppend(&line, "  ", View(field.key), "=",
                    NeedsQuotes(field.value) ? Quoted(field.value) : field.value);
  }
  impl_->logger.log(spdlog_level, "{}", line);
}

}  // namespace baton
