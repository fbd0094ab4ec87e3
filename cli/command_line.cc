#include "cli/command_line.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace baton {

std::string CommandLine() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string line;
  std::string word;
  while (std::getline(file, word, '\0')) {
    const bool plain =
        !word.empty() && word.find_first_of(" \t\n\"'$`\\*?&|;<>()[]{}#~!") == std::string::npos;
    if (!line.empty()) line += ' ';
    line += plain ? word : absl::StrCat("'", absl::StrReplaceAll(word, {{"'", "'\\''"}}), "'");
  }
  return line;
}

}  // namespace baton
