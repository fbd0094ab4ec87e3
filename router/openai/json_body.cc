#include "router/openai/json_body.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "router/front/utf8.h"

namespace baton {
namespace {

// One pass over the bytes that tracks strings and nesting only. What is not JSON passes here and
// fails in the parser.
std::string CheckShape(std::string_view body) {
  int depth = 0;
  int64_t values = 1;
  bool in_string = false;
  for (size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    if (c == '"') in_string = true;
    if (c == ',' || c == '[' || c == '{') ++values;
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (depth > kMaxJsonDepth) {
      return absl::StrCat("the JSON body nests deeper than ", kMaxJsonDepth, " levels at byte ", i);
    }
    if (values > kMaxJsonValues) {
      return absl::StrCat("the JSON body holds more than ", kMaxJsonValues, " values");
    }
  }
  return "";
}

}  // namespace

ApiResult<nlohmann::json> ParseJsonObject(std::string_view body) {
  if (const size_t bad = FirstInvalidUtf8(body); bad != body.size()) {
    return InvalidField("", absl::StrCat("the body is not valid UTF-8 at byte ", bad));
  }
  if (std::string problem = CheckShape(body); !problem.empty()) {
    return InvalidField("", std::move(problem));
  }
  // The parser would take a NUL for the end and not look at what follows.
  if (const size_t nul = body.find('\0'); nul != std::string_view::npos) {
    return InvalidField("", absl::StrCat("the body is not valid JSON at byte ", nul));
  }
  try {
    nlohmann::json parsed = nlohmann::json::parse(body);
    if (!parsed.is_object()) {
      return InvalidField("",
                          absl::StrCat("the body must be a JSON object, not ", parsed.type_name()));
    }
    return parsed;
  } catch (const nlohmann::json::parse_error& error) {
    return InvalidField("", absl::StrCat("the body is not valid JSON at byte ", error.byte));
  } catch (const nlohmann::json::exception& error) {
    return InvalidField("", absl::StrCat("the body is not valid JSON: ", error.what()));
  }
}

}  // namespace baton
