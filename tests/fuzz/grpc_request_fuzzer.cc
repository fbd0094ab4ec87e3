// baton.v1.CompletionRequest as serialized bytes. What is accepted keeps to all limits and is taken
// by a worker as it is; what is refused says why, with a code that a client can act on.
#include <cstdint>
#include <memory>
#include <string>

#include "common/check.h"
#include "common/log.h"
#include "engine/tokenizer/chat_template.h"
#include "router/cluster_report.h"
#include "router/grpc/request_convert.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/spec_checks.h"
#include "tests/unit/router/byte_tokenizer.h"

namespace baton {
namespace {

constexpr char kTemplate[] =
    "{% for m in messages %}{{ m.role + ':' + m.content + '\\n' }}{% endfor %}";

// Ready, and asked for its model only.
class ReadyService final : public CompletionService {
 public:
  RequestId Submit(RoutedRequest, std::shared_ptr<ResponseSink>) override { return RequestId(1); }
  void Cancel(RequestId) override {}
  bool CancelExternal(const std::string&) override { return false; }
  void Drain() override {}
  ServedModel model() const override {
    return {.name = "demo",
            .root = "models/demo",
            .max_model_len = kFuzzModelLen,
            .vocab_size = ByteTokenizer().vocab_size()};
  }
  Readiness readiness() const override { return {.phase = ReadyPhase::kReady}; }
  LoadView load() const override { return {}; }
  ClusterReport report() const override { return {}; }
};

class Server {
 public:
  Server() {
    auto parsed = ChatTemplate::Parse(kTemplate);
    BATON_CHECK(parsed.ok()) << parsed.status();
    template_ = *std::move(parsed);
  }

  void Offer(const v1::CompletionRequest& proto) {
    const GrpcContext context{.options = options_, .parts = parts_, .ids = ids_};
    const CallHeaders headers{.timeout = absl::Seconds(30)};
    GrpcCall call;
    const grpc::Status status = ConvertRequest(proto, context, headers, call);
    if (!status.ok()) {
      BATON_CHECK(status.error_code() == grpc::StatusCode::INVALID_ARGUMENT ||
                  status.error_code() == grpc::StatusCode::NOT_FOUND)
          << status.error_code();
      BATON_CHECK(!status.error_message().empty());
      return;
    }
    BATON_CHECK(call.model == "demo") << call.model;
    CheckRouted(call.request, options_.limits, tokenizer_.vocab_size());
  }

 private:
  const GrpcServerOptions options_{
      .limits = {.max_samples = 8, .slo_classes = {"default", "interactive", "batch"}}};
  ReadyService service_;
  ByteTokenizer tokenizer_;
  IdSource ids_{42};
  Logger logger_{"fuzzer", LogLevel::kError, LogFormat::kText};
  std::unique_ptr<ChatTemplate> template_;
  const GrpcServerParts parts_{
      .service = service_,
      .tokenizer = tokenizer_,
      .render_chat = [this](std::string_view context) { return template_->Render(context); },
      .logger = logger_};
};

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static baton::Server server;
  baton::v1::CompletionRequest proto;
  if (!proto.ParseFromArray(data, static_cast<int>(size))) return 0;
  server.Offer(proto);
  return 0;
}
