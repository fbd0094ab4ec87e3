#include "common/check.h"

#include <cstdio>
#include <cstdlib>

namespace baton {
namespace {

thread_local ScopedCheckHandler::Handler check_handler = nullptr;

}  // namespace

ScopedCheckHandler::ScopedCheckHandler(Handler handler) { check_handler = handler; }
ScopedCheckHandler::~ScopedCheckHandler() { check_handler = nullptr; }

namespace check_internal {

Failure::Failure(std::string_view file, int line, std::string_view condition) {
  stream_ << file << ':' << line << ": check failed: " << condition;
}

Failure::~Failure() noexcept(false) {
  const std::string message = stream_.str();
  if (check_handler != nullptr) check_handler(message);
  std::fprintf(stderr, "%s\n", message.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace check_internal
}  // namespace baton
