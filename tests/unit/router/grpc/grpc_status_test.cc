// The gRPC status of every error, down to the bytes of its details.
#include "router/grpc/status_map.h"

#include <gmock/gmock.h>
#include <google/protobuf/any.pb.h>
#include <google/protobuf/duration.pb.h>
#include <gtest/gtest.h>

#include "router/grpc/request_convert.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

TEST(GrpcStatus, EveryRouterErrorHasItsCode) {
  using Code = RequestErrorCode;
  const std::pair<Code, grpc::StatusCode> rows[] = {
      {Code::kInvalid, grpc::StatusCode::INVALID_ARGUMENT},
      {Code::kContextLength, grpc::StatusCode::INVALID_ARGUMENT},
      {Code::kNeverFits, grpc::StatusCode::INVALID_ARGUMENT},
      {Code::kOverloaded, grpc::StatusCode::RESOURCE_EXHAUSTED},
      {Code::kNoWorkers, grpc::StatusCode::UNAVAILABLE},
      {Code::kPrefillLost, grpc::StatusCode::UNAVAILABLE},
      {Code::kDecodeLost, grpc::StatusCode::UNAVAILABLE},
      {Code::kKvExhausted, grpc::StatusCode::UNAVAILABLE},
      {Code::kDraining, grpc::StatusCode::UNAVAILABLE},
      {Code::kQuarantined, grpc::StatusCode::INTERNAL},
      {Code::kDeadline, grpc::StatusCode::DEADLINE_EXCEEDED},
      {Code::kInternal, grpc::StatusCode::INTERNAL},
      {Code::kAborted, grpc::StatusCode::CANCELLED}};
  for (const auto& [code, expected] : rows) {
    EXPECT_EQ(ToGrpcStatus(RequestError{code, "why"}).error_code(), expected);
  }
}

// google.rpc.Status as bytes: field 1 the code, field 2 the message, field 3 an Any.
TEST(GrpcStatus, OverloadCarriesRetryInfo) {
  const grpc::Status status =
      ToGrpcStatus(RequestError{RequestErrorCode::kOverloaded, "full", absl::Milliseconds(2500)});
  const std::string& details = status.error_details();
  ASSERT_EQ(details.substr(0, 9), std::string("\x08\x08\x12\x04"
                                              "full\x1a"));
  google::protobuf::Any any;
  ASSERT_TRUE(any.ParseFromString(details.substr(10)));
  EXPECT_EQ(any.type_url(), "type.googleapis.com/google.rpc.RetryInfo");
  google::protobuf::Duration delay;
  ASSERT_TRUE(delay.ParseFromString(any.value().substr(2)));
  EXPECT_EQ(delay.seconds(), 2);
  EXPECT_EQ(delay.nanos(), 500'000'000);
}

TEST(GrpcStatus, FieldErrorsCarryBadRequest) {
  const grpc::Status status = ToGrpcStatus(FieldError{"sampling.top_p", "too big"});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_details(), HasSubstr("type.googleapis.com/google.rpc.BadRequest"));
  EXPECT_THAT(status.error_details(), HasSubstr("sampling.top_p"));
}

TEST(GrpcTimeout, IsTheClientsDeadlineUpToOurs) {
  const auto now = std::chrono::system_clock::now();
  EXPECT_EQ(TimeoutOf(std::chrono::system_clock::time_point::max(), absl::Seconds(60)),
            absl::Seconds(60));
  EXPECT_EQ(TimeoutOf(now + std::chrono::hours(1), absl::Seconds(60)), absl::Seconds(60));
  const absl::Duration near = TimeoutOf(now + std::chrono::seconds(30), absl::Seconds(60));
  EXPECT_GT(near, absl::Seconds(5));
  EXPECT_LE(near, absl::Seconds(30));
  EXPECT_EQ(TimeoutOf(now - std::chrono::seconds(1), absl::Seconds(60)), absl::ZeroDuration());
}

}  // namespace
}  // namespace baton
