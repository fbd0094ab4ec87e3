// Properties and case of Unicode characters, by ICU's tables.
#pragma once

#include <string>
#include <string_view>

namespace baton {

bool IsWhiteSpace(char32_t c);       // the White_Space property: what `\s` means in tokenizer.json
bool IsPythonSpace(char32_t c);      // str.isspace(): White_Space and U+001C..U+001F
bool IsWordCharacter(char32_t c);    // `\w` as Unicode TR 18 defines it
bool IsDecimalDigit(char32_t c);     // general category Nd
bool IsLetter(char32_t c);           // general category L*
bool IsCased(char32_t c);            // has the Cased property
bool IsPythonPrintable(char32_t c);  // str.isprintable()

// Full, locale-independent case mappings, as str.upper() and str.lower() of Python.
// REQUIRES: well-formed UTF-8.
std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);
void AppendTitleCase(char32_t c, std::string& out);

}  // namespace baton
