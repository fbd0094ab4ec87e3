#include "engine/parallel/gloo_communicator.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/engine/parallel/rank_threads.h"

namespace baton {
namespace {

TEST(ConnectGloo, RefusesWhatIsNoGroup) {
  const TestDirectory directory;
  EXPECT_EQ(ConnectGloo({.rank = 2, .size = 2, .rendezvous = directory.path()}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ConnectGloo({.rank = 0, .size = 2, .rendezvous = "/nowhere"}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(ConnectGloo, EndsWhenARankWillNotCome) {
  const TestDirectory directory;
  int asked = 0;
  const auto connected = ConnectGloo(
      {.rank = 0, .size = 2, .rendezvous = directory.path(), .check_alive = [&asked] {
         return ++asked < 3 ? absl::OkStatus() : absl::UnavailableError("rank 1 has ended");
       }});
  EXPECT_EQ(connected.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(std::string(connected.status().message()).find("rank 1 has ended"), std::string::npos)
      << connected.status();
}

}  // namespace
}  // namespace baton
