#include "common/check.h"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace baton::check_internal {

Failure::Failure(std::string_view file, int line, std::string_view condition) {
  stream_ << file << ':' << line << ": check failed: " << condition;
}

Failure::~Failure() {
  const std::string message = stream_.str();
  std::fprintf(stderr, "%s\n", message.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace baton::check_internal
