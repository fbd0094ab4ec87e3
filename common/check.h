// Assertions on our own bugs, and helpers to pass absl::Status across module borders.
//
// BATON_CHECK aborts: use it for conditions that only a bug in Baton can break, with the values
// streamed behind it. Anything that input, a peer or the machine can cause is an absl::Status.
#pragma once

#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton::check_internal {

// Collects the message of one failed check; its destructor prints it to stderr and aborts, or hands
// it to the thread's handler.
class Failure {
 public:
  Failure(std::string_view file, int line, std::string_view condition);
  [[noreturn]] ~Failure() noexcept(false);
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

}  // namespace baton::check_internal

namespace baton {

// While it lives, failed checks of this thread call `handler`, which must not return: a simulator
// throws, to report what failed and go on with the next run. A check inside a destructor ends the
// process all the same. Scopes may not overlap.
class ScopedCheckHandler {
 public:
  using Handler = void (*)(const std::string& message);
  explicit ScopedCheckHandler(Handler handler);
  ~ScopedCheckHandler();
  ScopedCheckHandler(const ScopedCheckHandler&) = delete;
  ScopedCheckHandler& operator=(const ScopedCheckHandler&) = delete;
};

}  // namespace baton

#define BATON_CHECK(condition) \
  while (!(condition))         \
  [[unlikely]] ::baton::check_internal::Failure(__FILE__, __LINE__, #condition).stream() << ' '

#define BATON_CHECK_OK(expression)                                         \
  do {                                                                     \
    const ::absl::Status baton_check_status = (expression);                \
    BATON_CHECK(baton_check_status.ok()) << baton_check_status.ToString(); \
  } while (false)

#define BATON_CONCAT_INNER(a, b) a##b
#define BATON_CONCAT(a, b) BATON_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expression` is not OK.
#define RETURN_IF_ERROR(expression)                                       \
  do {                                                                    \
    if (::absl::Status baton_status = (expression); !baton_status.ok()) { \
      return baton_status;                                                \
    }                                                                     \
  } while (false)

// ASSIGN_OR_RETURN(auto value, F()): unwraps an absl::StatusOr or returns its status.
#define ASSIGN_OR_RETURN(target, expression) \
  ASSIGN_OR_RETURN_INNER(BATON_CONCAT(baton_status_or_, __LINE__), target, expression)
#define ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                              \
  if (!result.ok()) return std::move(result).status();     \
  target = *std::move(result)
