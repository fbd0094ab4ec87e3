// Between the protobuf messages and the router's plain structs. Pure. Internal to router/grpc.
#pragma once

#include <grpcpp/support/status.h>

#include <chrono>
#include <string>
#include <variant>

#include "proto/baton/v1/completion.pb.h"
#include "router/front/id_source.h"
#include "router/grpc/grpc_server.h"

namespace baton {

struct GrpcContext {
  const GrpcServerOptions& options;
  const GrpcServerParts& parts;
  IdSource& ids;
};

// A checked call.
struct GrpcCall {
  RoutedRequest request;
  std::string model;
  bool return_token_ids = false;
  bool logprobs = false;
  bool timings = false;
};

// What a call says outside its message.
struct CallHeaders {
  absl::Duration timeout;
  std::string slo_class;      // metadata x-slo-class; the message's own goes before it
  std::string authorization;  // metadata authorization; only ever hashed
  std::string tenant;         // of the API key in it; empty: nobody asked for one
};

// The time until the client's deadline, bounded by the server's own.
absl::Duration TimeoutOf(std::chrono::system_clock::time_point deadline, absl::Duration longest);

// Sets `call`, or says what is wrong: NOT_FOUND for another model, INVALID_ARGUMENT with the field,
// UNAVAILABLE while not ready.
grpc::Status ConvertRequest(const v1::CompletionRequest& proto, const GrpcContext& context,
                            const CallHeaders& headers, GrpcCall& call);

// The tokens of a prompt in messages form.
grpc::Status EncodeMessages(const v1::ChatMessages& messages, const GrpcContext& context,
                            std::vector<TokenId>& tokens);
// NOT_FOUND unless `name` is empty or the served model's.
grpc::Status CheckModel(const std::string& name, const ServedModel& model);

v1::Model ToProto(const ServedModel& model);
v1::Timings ToProto(const RequestTimings& timings);
v1::Usage UsageOf(const RequestSummary& summary);
v1::LogprobEntry ToProto(const OutputToken& token);
std::string StopReasonOf(const SampleDelta& delta);

}  // namespace baton
