// The report page's sources, kept as files of their own and compiled in (cmake/BatonEmbed.cmake).
#pragma once

#include <string_view>

namespace baton {

extern const std::string_view kReportPage;    // with {{DATA}} and {{SCRIPT}} to fill in
extern const std::string_view kReportPlots;   // JavaScript: how to draw
extern const std::string_view kReportScript;  // JavaScript: what is drawn

}  // namespace baton
