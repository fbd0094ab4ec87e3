// The generated services, wired to the router. Internal to router/grpc.
#pragma once

#include "proto/baton/v1/completion.grpc.pb.h"
#include "router/grpc/request_convert.h"

namespace baton {

// Thread-safe, as gRPC demands. `context` must outlive them.
class CompletionGrpc final : public v1::Completion::CallbackService {
 public:
  explicit CompletionGrpc(const GrpcContext& context) : context_(context) {}
  grpc::ServerUnaryReactor* Complete(grpc::CallbackServerContext* call,
                                     const v1::CompletionRequest* request,
                                     v1::CompletionResponse* response) override;
  grpc::ServerWriteReactor<v1::CompletionEvent>* CompleteStream(
      grpc::CallbackServerContext* call, const v1::CompletionRequest* request) override;

 private:
  const GrpcContext& context_;
};

class ModelsGrpc final : public v1::Models::CallbackService {
 public:
  explicit ModelsGrpc(const GrpcContext& context) : context_(context) {}
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* call,
                                 const v1::ListModelsRequest* request,
                                 v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* call,
                                const v1::GetModelRequest* request, v1::Model* response) override;

 private:
  const GrpcContext& context_;
};

class TokenizerGrpc final : public v1::Tokenizer::CallbackService {
 public:
  explicit TokenizerGrpc(const GrpcContext& context) : context_(context) {}
  grpc::ServerUnaryReactor* Encode(grpc::CallbackServerContext* call,
                                   const v1::EncodeRequest* request,
                                   v1::EncodeResponse* response) override;
  grpc::ServerUnaryReactor* Decode(grpc::CallbackServerContext* call,
                                   const v1::DecodeRequest* request,
                                   v1::DecodeResponse* response) override;

 private:
  const GrpcContext& context_;
};

class ControlGrpc final : public v1::Control::CallbackService {
 public:
  explicit ControlGrpc(const GrpcContext& context) : context_(context) {}
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* call,
                                  const v1::AbortRequest* request,
                                  v1::AbortResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* call,
                                  const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;
  grpc::ServerUnaryReactor* GetLoad(grpc::CallbackServerContext* call,
                                    const v1::GetLoadRequest* request,
                                    v1::GetLoadResponse* response) override;

 private:
  const GrpcContext& context_;
};

}  // namespace baton
