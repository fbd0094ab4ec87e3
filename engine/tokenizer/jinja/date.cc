#include "engine/tokenizer/jinja/date.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/strings.h"

namespace baton::jinja {

absl::StatusOr<std::string> FormatDate(std::string_view format, int64_t unix_s) {
  static constexpr std::string_view kDirectives = "YmdHMSybBaAjepIFTDRzZ%";
  const absl::Time time = absl::FromUnixSeconds(unix_s);
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out.push_back(format[i]);
      continue;
    }
    const bool unpadded = i + 1 < format.size() && format[i + 1] == '-';
    i += unpadded ? 2 : 1;
    if (i >= format.size() || kDirectives.find(format[i]) == std::string_view::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("strftime_now does not support the format \"", View(format), "\""));
    }
    std::string part = absl::FormatTime(std::string("%") + format[i], time, absl::UTCTimeZone());
    while (unpadded && part.size() > 1 && (part[0] == '0' || part[0] == ' ')) part.erase(0, 1);
    out += part;
  }
  return out;
}

}  // namespace baton::jinja
