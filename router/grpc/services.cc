#include "router/grpc/services.h"

#include "absl/strings/str_cat.h"
#include "router/grpc/caller.h"
#include "router/grpc/completion_calls.h"
#include "router/grpc/status_map.h"

namespace baton {
namespace {

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* call, grpc::Status status) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  reactor->Finish(std::move(status));
  return reactor;
}

// Of a method whose answer needs the model, which is known once the first worker has said what it
// serves; draining changes nothing here.
grpc::Status MayAskModel(const grpc::CallbackServerContext& call, const GrpcContext& context) {
  const CallerCheck caller = CheckCaller(call, context, Access::kUse);
  if (caller.refused) return *caller.refused;
  const Readiness readiness = context.parts.service.readiness();
  if (readiness.phase != ReadyPhase::kLoading) return grpc::Status::OK;
  return *NotReadyStatus(readiness);
}

}  // namespace

grpc::ServerUnaryReactor* CompletionGrpc::Complete(grpc::CallbackServerContext* call,
                                                   const v1::CompletionRequest* request,
                                                   v1::CompletionResponse* response) {
  return StartComplete(call, *request, response, context_);
}

grpc::ServerWriteReactor<v1::CompletionEvent>* CompletionGrpc::CompleteStream(
    grpc::CallbackServerContext* call, const v1::CompletionRequest* request) {
  return StartCompleteStream(call, *request, context_);
}

grpc::ServerUnaryReactor* ModelsGrpc::List(grpc::CallbackServerContext* call,
                                           const v1::ListModelsRequest*,
                                           v1::ListModelsResponse* response) {
  grpc::Status status = MayAskModel(*call, context_);
  if (status.ok()) *response->add_models() = ToProto(context_.parts.service.model());
  return Answer(call, std::move(status));
}

grpc::ServerUnaryReactor* ModelsGrpc::Get(grpc::CallbackServerContext* call,
                                          const v1::GetModelRequest* request, v1::Model* response) {
  grpc::Status status = MayAskModel(*call, context_);
  if (status.ok()) {
    const ServedModel model = context_.parts.service.model();
    status = CheckModel(request->id(), model);
    if (status.ok()) *response = ToProto(model);
  }
  return Answer(call, std::move(status));
}

grpc::ServerUnaryReactor* TokenizerGrpc::Encode(grpc::CallbackServerContext* call,
                                                const v1::EncodeRequest* request,
                                                v1::EncodeResponse* response) {
  grpc::Status status = MayAskModel(*call, context_);
  if (!status.ok()) return Answer(call, std::move(status));
  const Tokenizer& tokenizer = context_.parts.tokenizer;
  std::vector<TokenId> tokens;
  if (request->has_messages()) {
    status = EncodeMessages(request->messages(), context_, tokens);
    if (!status.ok()) return Answer(call, std::move(status));
  } else {
    const bool add_special = !request->has_add_special_tokens() || request->add_special_tokens();
    tokens = tokenizer.Encode(request->text(), add_special, /*parse_special=*/false);
  }
  for (const TokenId token : tokens) {
    response->add_ids(token);
    response->add_tokens(tokenizer.TokenPiece(token));
  }
  response->set_max_model_len(context_.parts.service.model().max_model_len);
  return Answer(call, grpc::Status::OK);
}

grpc::ServerUnaryReactor* TokenizerGrpc::Decode(grpc::CallbackServerContext* call,
                                                const v1::DecodeRequest* request,
                                                v1::DecodeResponse* response) {
  const CallerCheck caller = CheckCaller(*call, context_, Access::kUse);
  if (caller.refused) return Answer(call, *caller.refused);
  const Tokenizer& tokenizer = context_.parts.tokenizer;
  for (const TokenId token : request->ids()) {
    if (token >= 0 && token < tokenizer.vocab_size()) continue;
    return Answer(call,
                  ToGrpcStatus(FieldError{"ids", absl::StrCat("ids holds token id ", token,
                                                              "; the vocabulary has ids 0 to ",
                                                              tokenizer.vocab_size() - 1)}));
  }
  const std::vector<TokenId> tokens(request->ids().begin(), request->ids().end());
  response->set_text(tokenizer.Decode(tokens, /*skip_special=*/false));
  return Answer(call, grpc::Status::OK);
}

grpc::ServerUnaryReactor* ControlGrpc::Abort(grpc::CallbackServerContext* call,
                                             const v1::AbortRequest* request,
                                             v1::AbortResponse* response) {
  const CallerCheck caller = CheckCaller(*call, context_, Access::kAdmin);
  if (caller.refused) return Answer(call, *caller.refused);
  response->set_found(context_.parts.service.CancelExternal(request->request_id()));
  return Answer(call, grpc::Status::OK);
}

grpc::ServerUnaryReactor* ControlGrpc::Drain(grpc::CallbackServerContext* call,
                                             const v1::DrainRequest*, v1::DrainResponse*) {
  const CallerCheck caller = CheckCaller(*call, context_, Access::kAdmin);
  if (caller.refused) return Answer(call, *caller.refused);
  context_.parts.service.Drain();
  return Answer(call, grpc::Status::OK);
}

grpc::ServerUnaryReactor* ControlGrpc::GetLoad(grpc::CallbackServerContext* call,
                                               const v1::GetLoadRequest*,
                                               v1::GetLoadResponse* response) {
  const CallerCheck caller = CheckCaller(*call, context_, Access::kAdmin);
  if (caller.refused) return Answer(call, *caller.refused);
  const LoadView load = context_.parts.service.load();
  response->set_requests_running(load.requests_running);
  response->set_requests_waiting(load.requests_waiting);
  for (const LoadView::Worker& worker : load.workers) {
    v1::WorkerLoad* proto = response->add_workers();
    proto->set_worker(worker.id);
    proto->set_role(worker.role);
    proto->set_alive(worker.alive);
    proto->set_running(worker.running);
    proto->set_free_blocks(worker.free_blocks);
    proto->set_total_blocks(worker.total_blocks);
  }
  return Answer(call, grpc::Status::OK);
}

}  // namespace baton
