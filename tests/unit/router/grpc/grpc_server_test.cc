// The gRPC front with a real client over the scripted service.
#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "proto/baton/v1/completion.grpc.pb.h"
#include "router/grpc/grpc_server.h"
#include "tests/unit/router/byte_tokenizer.h"
#include "tests/unit/router/fake_completion_service.h"
#include "tests/unit/router/grpc/generic_call.h"

namespace baton {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Grpc : public ::testing::Test {
 protected:
  Grpc() {
    options_.port = 0;
    options_.limits.slo_classes = {"default", "batch"};
  }
  ~Grpc() override {
    if (server_) server_->Stop(absl::ZeroDuration());
  }
  absl::StatusOr<std::unique_ptr<GrpcServer>> TryStart(const GrpcServerOptions& options) {
    return StartGrpcServer(
        options,
        {.service = service_,
         .tokenizer = tokenizer_,
         .render_chat = [](std::string_view) { return absl::StatusOr<std::string>("<s>chat:"); },
         .logger = logger_});
  }
  void Start() {
    auto server = TryStart(options_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                   grpc::InsecureChannelCredentials());
    completion_ = v1::Completion::NewStub(channel_);
  }
  static v1::CompletionRequest Text(const std::string& text, int max_tokens) {
    v1::CompletionRequest request;
    request.set_text(text);
    request.mutable_stopping()->set_max_tokens(max_tokens);
    request.mutable_sampling()->set_seed(5);
    return request;
  }
  grpc::Status Complete(const v1::CompletionRequest& request) {
    grpc::ClientContext context;
    v1::CompletionResponse response;
    return completion_->Complete(&context, request, &response);
  }

  FakeCompletionService service_;
  ByteTokenizer tokenizer_;
  Logger logger_{"test", LogLevel::kError, LogFormat::kText};
  GrpcServerOptions options_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Completion::Stub> completion_;
};

TEST_F(Grpc, CompletesInOneAnswer) {
  Start();
  v1::CompletionRequest request = Text("hi", 4);
  request.set_n(2);
  request.set_request_id("mine");
  request.mutable_output()->set_logprobs(1);
  request.mutable_output()->set_return_token_ids(true);
  request.mutable_output()->set_timings(true);
  grpc::ClientContext context;
  v1::CompletionResponse response;
  ASSERT_TRUE(completion_->Complete(&context, request, &response).ok());
  EXPECT_EQ(response.request_id(), "mine");
  EXPECT_EQ(response.model(), "demo");
  ASSERT_EQ(response.choices_size(), 2);
  EXPECT_EQ(response.choices(1).text(), FakeCompletionService::TextOf(5, 1, 4));
  EXPECT_EQ(response.choices(1).index(), 1);
  EXPECT_EQ(response.choices(0).finish_reason(), "length");
  EXPECT_EQ(response.choices(0).token_ids_size(), 4);
  EXPECT_EQ(response.choices(0).logprobs(0).top_size(), 1);
  EXPECT_EQ(response.usage().prompt_tokens(), 3);
  EXPECT_EQ(response.usage().completion_tokens(), 8);
  EXPECT_EQ(response.timings().ttft_ms(), 12.5);
}

TEST_F(Grpc, StreamsPromptThenDeltasThenFinish) {
  Start();
  grpc::ClientContext context;
  auto stream = completion_->CompleteStream(&context, Text("hi", 3));
  std::vector<v1::CompletionEvent> events;
  for (v1::CompletionEvent event; stream->Read(&event);) events.push_back(event);
  ASSERT_TRUE(stream->Finish().ok());
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[0].prompt().prompt_tokens(), 3);
  std::string text;
  for (int i = 1; i <= 3; ++i) text += events[i].delta().text();
  EXPECT_EQ(text, FakeCompletionService::TextOf(5, 0, 3));
  EXPECT_EQ(events[2].delta().finish_reason(), "");
  EXPECT_EQ(events[3].delta().finish_reason(), "length");
  EXPECT_EQ(events[3].delta().token_ids_size(), 0) << "not asked for";
  EXPECT_EQ(events[4].finish().usage().cached_tokens(), 3);
  EXPECT_FALSE(events[4].finish().has_timings());
}

TEST_F(Grpc, EveryFieldReachesTheRequest) {
  Start();
  v1::CompletionRequest request;
  request.mutable_token_ids()->add_ids(104);
  v1::Sampling* sampling = request.mutable_sampling();
  sampling->set_temperature(0.5f);
  sampling->set_top_p(0.75f);
  sampling->set_top_k(9);
  sampling->set_min_p(0.125f);
  sampling->set_presence_penalty(1.0f);
  sampling->set_frequency_penalty(-1.0f);
  sampling->set_repetition_penalty(1.25f);
  sampling->set_seed(77);
  (*sampling->mutable_logit_bias())[9] = 2.5f;
  (*sampling->mutable_logit_bias())[3] = -2.5f;
  v1::Stopping* stopping = request.mutable_stopping();
  stopping->set_max_tokens(8);
  stopping->set_min_tokens(2);
  stopping->set_ignore_eos(true);
  stopping->add_stop("end");
  stopping->add_stop_token_ids(11);
  stopping->set_include_stop_str_in_output(true);
  request.mutable_output()->set_skip_special_tokens(false);
  request.mutable_slo()->set_slo_class("batch");
  request.mutable_slo()->set_ttft_ms(50);
  request.set_priority(-3);
  request.set_cache_salt("tenant");
  ASSERT_TRUE(Complete(request).ok());
  const RoutedRequest routed = service_.submitted().at(0);
  const GenerationSpec& spec = routed.spec;
  EXPECT_THAT(spec.tokens, ElementsAre(104));
  EXPECT_EQ(spec.prompt_length, 1);
  EXPECT_EQ(spec.sampling.temperature, 0.5f);
  EXPECT_EQ(spec.sampling.top_p, 0.75f);
  EXPECT_EQ(spec.sampling.top_k, 9);
  EXPECT_EQ(spec.sampling.min_p, 0.125f);
  EXPECT_EQ(spec.sampling.presence_penalty, 1.0f);
  EXPECT_EQ(spec.sampling.frequency_penalty, -1.0f);
  EXPECT_EQ(spec.sampling.repetition_penalty, 1.25f);
  EXPECT_EQ(spec.sampling.seed, 77u);
  EXPECT_THAT(spec.sampling.logit_bias,
              ElementsAre(std::pair<TokenId, float>(3, -2.5f), std::pair<TokenId, float>(9, 2.5f)));
  EXPECT_EQ(spec.stopping.max_tokens, 8);
  EXPECT_EQ(spec.stopping.min_tokens, 2);
  EXPECT_TRUE(spec.stopping.ignore_eos);
  EXPECT_THAT(spec.stopping.stop_token_ids, ElementsAre(11));
  EXPECT_THAT(routed.output.stop, ElementsAre("end"));
  EXPECT_TRUE(routed.output.include_stop_str_in_output);
  EXPECT_FALSE(routed.output.skip_special_tokens);
  EXPECT_EQ(routed.slo.slo_class, "batch");
  EXPECT_EQ(routed.slo.ttft_ms, 50.0);
  EXPECT_EQ(routed.priority, -3);
  EXPECT_NE(spec.cache_salt, 0u);
}

TEST_F(Grpc, MetadataNamesTheSloClassAndTheTenant) {
  Start();
  grpc::ClientContext context;
  context.AddMetadata("x-slo-class", "batch");
  context.AddMetadata("authorization", "Bearer k");
  v1::CompletionResponse response;
  ASSERT_TRUE(completion_->Complete(&context, Text("a", 2), &response).ok());
  EXPECT_EQ(service_.submitted().at(0).slo.slo_class, "batch");
  EXPECT_NE(service_.submitted().at(0).tenant, 0u);
  grpc::ClientContext unknown;
  unknown.AddMetadata("x-slo-class", "gold");
  const grpc::Status status = completion_->Complete(&unknown, Text("a", 2), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("x-slo-class is 'gold'"));
}

TEST_F(Grpc, DefaultsFollowThePromptsForm) {
  Start();
  v1::CompletionRequest text;
  text.set_text("hi");
  ASSERT_TRUE(Complete(text).ok());
  v1::CompletionRequest chat;
  v1::ChatMessage* message = chat.mutable_messages()->add_messages();
  message->set_role("user");
  message->set_content("x");
  ASSERT_TRUE(Complete(chat).ok());
  const auto requests = service_.submitted();
  EXPECT_EQ(requests[0].spec.stopping.max_tokens, 16);
  EXPECT_EQ(requests[0].spec.sampling.temperature, 1.0f);
  EXPECT_EQ(requests[1].spec.tokens.front(), ByteTokenizer::kBos);
  EXPECT_EQ(requests[1].spec.stopping.max_tokens, 256 - requests[1].spec.prompt_length);
}

TEST_F(Grpc, BadFieldsAreInvalidArgumentByName) {
  Start();
  const std::pair<std::function<void(v1::CompletionRequest&)>, const char*> cases[] = {
      {[](auto& r) { r.clear_text(); }, "one of text"},
      {[](auto& r) { r.mutable_token_ids(); }, "empty"},
      {[](auto& r) { r.mutable_token_ids()->add_ids(258); }, "0 to 257"},
      {[](auto& r) { r.mutable_messages(); }, "at least one"},
      {[](auto& r) { r.mutable_sampling()->set_temperature(3); }, "sampling.temperature"},
      {[](auto& r) { r.mutable_sampling()->set_top_p(NAN); }, "sampling.top_p"},
      {[](auto& r) { r.mutable_sampling()->set_top_k(-5); }, "sampling.top_k"},
      {[](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[-1] = 1; }, "logit_bias"},
      {[](auto& r) { r.mutable_stopping()->set_max_tokens(0); }, "stopping.max_tokens"},
      {[](auto& r) { r.mutable_stopping()->set_max_tokens(1000); }, "maximum context length"},
      {[](auto& r) { r.mutable_stopping()->set_min_tokens(5); }, "stopping.min_tokens"},
      {[](auto& r) { r.mutable_stopping()->add_stop(""); }, "empty string"},
      {[](auto& r) { r.mutable_stopping()->add_stop_token_ids(-1); }, "stop_token_ids"},
      {[](auto& r) { r.mutable_output()->set_logprobs(21); }, "output.logprobs"},
      {[](auto& r) { r.mutable_slo()->set_ttft_ms(-1); }, "slo.ttft_ms"},
      {[](auto& r) { r.mutable_slo()->set_slo_class("gold"); }, "default, batch"},
      {[](auto& r) { r.set_n(0); }, "n is 0"},
      {[](auto& r) { r.set_cache_salt(std::string(300, 's')); }, "cache_salt"},
  };
  for (const auto& [change, message] : cases) {
    v1::CompletionRequest request = Text("a", 2);
    change(request);
    const grpc::Status status = Complete(request);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << message;
    EXPECT_THAT(status.error_message(), HasSubstr(message));
    EXPECT_THAT(status.error_details(), HasSubstr("BadRequest"));
  }
  v1::CompletionRequest other = Text("a", 2);
  other.set_model("other");
  EXPECT_EQ(Complete(other).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(service_.submitted().empty());
}

TEST_F(Grpc, TheClientsDeadlineBoundsTheRequest) {
  Start();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::CompletionResponse response;
  ASSERT_TRUE(completion_->Complete(&context, Text("a", 1), &response).ok());
  // The deadline travels as a rounded duration.
  EXPECT_LE(service_.submitted()[0].timeout, absl::Seconds(22));
  ASSERT_TRUE(Complete(Text("a", 1)).ok());
  EXPECT_EQ(service_.submitted()[1].timeout, options_.request_timeout);
}

TEST_F(Grpc, RouterErrorsAreRealStatusCodes) {
  service_.set_script(
      {.tokens_before_hold = 1,
       .error = RequestError{RequestErrorCode::kOverloaded, "full", absl::Seconds(2)}});
  Start();
  const grpc::Status unary = Complete(Text("a", 3));
  EXPECT_EQ(unary.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(unary.error_details(), HasSubstr("RetryInfo"));
  grpc::ClientContext context;
  auto stream = completion_->CompleteStream(&context, Text("a", 3));
  int events = 0;
  for (v1::CompletionEvent event; stream->Read(&event);) ++events;
  EXPECT_EQ(events, 2) << "the prompt and one delta come before the error";
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(Grpc, CancellingOrDroppingAbortsTheRequest) {
  service_.set_script({.tokens_before_hold = 1});
  Start();
  {
    grpc::ClientContext context;
    auto stream = completion_->CompleteStream(&context, Text("a", 3));
    v1::CompletionEvent event;
    ASSERT_TRUE(stream->Read(&event));
    ASSERT_TRUE(stream->Read(&event));
    context.TryCancel();
    while (stream->Read(&event)) {
    }
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(service_.WaitForCancelled(1));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  v1::CompletionResponse response;
  EXPECT_EQ(completion_->Complete(&context, Text("a", 3), &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(service_.WaitForCancelled(2));
}

TEST_F(Grpc, ASlowReaderIsCut) {
  options_.max_output_bytes = 256 << 10;
  service_.set_script({.tokens_before_hold = 200, .text_bytes_per_token = 64 << 10});
  Start();
  grpc::ClientContext context;
  auto stream = completion_->CompleteStream(&context, Text("a", 240));
  EXPECT_TRUE(service_.WaitForCancelled(1));
  for (v1::CompletionEvent event; stream->Read(&event);) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(Grpc, AReaderThatStopsIsCutWhenItsRequestHasEnded) {
  options_.max_output_bytes = 64u << 20;
  options_.write_timeout = absl::Milliseconds(200);
  service_.set_script({.text_bytes_per_token = 64 << 10});
  Start();
  grpc::ClientContext context;
  auto stream = completion_->CompleteStream(&context, Text("a", 200));
  EXPECT_TRUE(service_.WaitForCancelCalls(1));
  for (v1::CompletionEvent event; stream->Read(&event);) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(Grpc, ServesModelsTokenizerAndControl) {
  service_.set_script({.tokens_before_hold = 0});
  Start();
  auto models = v1::Models::NewStub(channel_);
  auto tokenizer = v1::Tokenizer::NewStub(channel_);
  auto control = v1::Control::NewStub(channel_);
  const auto call = [](auto method) {
    grpc::ClientContext context;
    return method(&context);
  };
  v1::ListModelsResponse list;
  ASSERT_TRUE(call([&](auto* c) { return models->List(c, {}, &list); }).ok());
  EXPECT_EQ(list.models(0).root(), "models/demo");
  v1::GetModelRequest other;
  other.set_id("other");
  v1::Model model;
  EXPECT_EQ(call([&](auto* c) { return models->Get(c, other, &model); }).error_code(),
            grpc::StatusCode::NOT_FOUND);
  v1::EncodeRequest encode;
  encode.set_text("hi");
  encode.set_add_special_tokens(false);
  v1::EncodeResponse encoded;
  ASSERT_TRUE(call([&](auto* c) { return tokenizer->Encode(c, encode, &encoded); }).ok());
  EXPECT_THAT(encoded.ids(), ElementsAre(104, 105));
  EXPECT_THAT(encoded.tokens(), ElementsAre("h", "i"));
  v1::DecodeRequest decode;
  *decode.mutable_ids() = encoded.ids();
  v1::DecodeResponse decoded;
  ASSERT_TRUE(call([&](auto* c) { return tokenizer->Decode(c, decode, &decoded); }).ok());
  EXPECT_EQ(decoded.text(), "hi");
  decode.add_ids(9999);
  EXPECT_EQ(call([&](auto* c) { return tokenizer->Decode(c, decode, &decoded); }).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  v1::GetLoadResponse load;
  ASSERT_TRUE(call([&](auto* c) { return control->GetLoad(c, {}, &load); }).ok());
  EXPECT_EQ(load.workers(0).worker(), "prefill-0");
  EXPECT_EQ(load.workers(0).total_blocks(), 16);
  v1::AbortRequest abort;
  abort.set_request_id("never seen");
  v1::AbortResponse aborted;
  ASSERT_TRUE(call([&](auto* c) { return control->Abort(c, abort, &aborted); }).ok());
  EXPECT_FALSE(aborted.found());
  v1::DrainResponse drained;
  ASSERT_TRUE(call([&](auto* c) { return control->Drain(c, {}, &drained); }).ok());
  EXPECT_TRUE(service_.drained());
  EXPECT_EQ(Complete(Text("a", 1)).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(Grpc, AbortEndsARunningStreamWithCancelled) {
  service_.set_script({.tokens_before_hold = 1});
  Start();
  v1::CompletionRequest request = Text("a", 3);
  request.set_request_id("abort-me");
  grpc::ClientContext context;
  auto stream = completion_->CompleteStream(&context, request);
  v1::CompletionEvent event;
  ASSERT_TRUE(stream->Read(&event));
  ASSERT_TRUE(stream->Read(&event));
  v1::AbortRequest abort;
  abort.set_request_id("abort-me");
  v1::AbortResponse aborted;
  grpc::ClientContext abort_context;
  ASSERT_TRUE(v1::Control::NewStub(channel_)->Abort(&abort_context, abort, &aborted).ok());
  EXPECT_TRUE(aborted.found());
  EXPECT_FALSE(stream->Read(&event));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(Grpc, RequestsUpToTheReceiveLimitAreTaken) {
  Start();
  const grpc::Status fits = Complete(Text(std::string(5 << 20, 'x'), 1));
  EXPECT_THAT(fits.error_message(), HasSubstr("maximum context length"));
  const grpc::Status over = Complete(Text(std::string(17 << 20, 'x'), 1));
  EXPECT_EQ(over.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

// grpc.health.v1 by hand, since its generated code is not among our dependencies: the answer is
// { ServingStatus status = 1; } with 1 = SERVING and 2 = NOT_SERVING.
int HealthOf(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  grpc::ByteBuffer response;
  const grpc::Status status = CallUnary(channel, context, "/grpc.health.v1.Health/Check", response);
  std::vector<grpc::Slice> slices;
  if (!status.ok() || !response.Dump(&slices).ok() || slices.empty()) return -1;
  return slices[0].size() == 2 ? slices[0].begin()[1] : -1;
}

TEST_F(Grpc, HealthFollowsReadiness) {
  options_.health_interval = absl::Milliseconds(5);
  Start();
  EXPECT_EQ(HealthOf(channel_), 1);
  service_.set_readiness({ReadyPhase::kLoading, "loading"});
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  int health = 1;
  while (health == 1 && absl::Now() < deadline) health = HealthOf(channel_);
  EXPECT_EQ(health, 2);
  EXPECT_EQ(Complete(Text("a", 1)).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(Grpc, ATakenPortIsAnError) {
  Start();
  GrpcServerOptions second = options_;
  second.port = server_->port();
  const auto refused = TryStart(second);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(Grpc, StopLetsRunningStreamsEnd) {
  service_.set_script({.tokens_before_hold = 1});
  Start();
  grpc::ClientContext context;
  auto stream = completion_->CompleteStream(&context, Text("a", 3));
  v1::CompletionEvent event;
  ASSERT_TRUE(stream->Read(&event));
  ASSERT_TRUE(stream->Read(&event));
  std::thread stopper([this] { server_->Stop(absl::Seconds(20)); });
  service_.Release();
  while (stream->Read(&event)) {
  }
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_TRUE(event.has_finish());
  stopper.join();
}

}  // namespace
}  // namespace baton
