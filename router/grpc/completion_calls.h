// The reactors of Completion.Complete and Completion.CompleteStream. Internal to router/grpc.
//
// Each call is shared between gRPC (until OnDone) and the router (until the terminal event).
// Events arrive on the router's loop thread, reactions on gRPC's threads; a mutex orders them and
// is never held while gRPC or the router is called.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "proto/baton/v1/completion.pb.h"
#include "router/grpc/request_convert.h"

namespace baton {

// Checks the request and submits it. The reactor owns itself and ends with the call.
grpc::ServerUnaryReactor* StartComplete(grpc::CallbackServerContext* call_context,
                                        const v1::CompletionRequest& request,
                                        v1::CompletionResponse* response,
                                        const GrpcContext& context);
grpc::ServerWriteReactor<v1::CompletionEvent>* StartCompleteStream(
    grpc::CallbackServerContext* call_context, const v1::CompletionRequest& request,
    const GrpcContext& context);

}  // namespace baton
