// NCCL is not needed to start, and where it is missing its name is in the error. Operations need a
// device for each rank.
#include <gtest/gtest.h>

#include <string>

#include "engine/model/cuda/nccl_communicator.h"

namespace baton {
namespace {

TEST(CheckNccl, NamesALibraryThatIsNotThere) {
  const absl::Status status = CheckNccl("libnccl-that-is-not-there.so.2");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(status.message()).find("libnccl-that-is-not-there.so.2"), std::string::npos)
      << status;
  EXPECT_NE(std::string(status.message()).find("leave tensor_parallel at 1"), std::string::npos)
      << status;
}

TEST(CheckNccl, NamesWhatALibraryLacks) {
  const absl::Status status = CheckNccl("libm.so.6");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(std::string(status.message()).find("ncclGetErrorString"), std::string::npos) << status;
}

TEST(CheckNccl, FindsTheOneThatIsInstalled) {
  const absl::Status status = CheckNccl();
  if (!status.ok()) GTEST_SKIP() << status;
}

}  // namespace
}  // namespace baton
