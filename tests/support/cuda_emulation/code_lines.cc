#include "tests/support/cuda_emulation/code_lines.h"

#include <dlfcn.h>

#include <cstddef>
#include <cstdio>

namespace baton::cuda_emulation {

std::string LinesOf(const void* code) {
  Dl_info file{};
  if (code == nullptr || dladdr(code, &file) == 0) return "  unknown code\n";
  const auto offset = static_cast<const std::byte*>(code) -
                      static_cast<const std::byte*>(file.dli_fbase) - 1;  // within the call
  char command[1024];
  std::snprintf(command, sizeof(command), "addr2line -Cfipe '%s' %#tx", file.dli_fname, offset);
  std::string lines;
  FILE* output = popen(command, "r");
  for (char line[1024]; output != nullptr && std::fgets(line, sizeof(line), output) != nullptr;) {
    lines += std::string("  ") + line;
  }
  if (output != nullptr) pclose(output);
  return lines.empty() ? std::string("  ") + command + "\n" : lines;
}

}  // namespace baton::cuda_emulation
