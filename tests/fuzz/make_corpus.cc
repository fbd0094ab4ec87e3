// Writes the seeds that no editor can write (tests/fuzz/corpus): messages of the KV wire, protobuf
// of the control plane and of the public API, the smallest model.
//
//   tools/build.sh fuzz baton_make_corpus && build/fuzz/baton_make_corpus
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/check.h"
#include "engine/runtime/rank_message.h"
#include "kvtransfer/core/wire.h"
#include "proto/baton/v1/completion.pb.h"
#include "proto/baton/v1/worker.pb.h"
#include "tests/support/source_dir.h"
#include "tests/unit/engine/model/model_files.h"
#include "worker/convert.h"

namespace baton {
namespace {

void Write(const std::string& fuzzer, const std::string& name, std::string_view bytes) {
  const auto folder = std::filesystem::path(SourceDir()) / "tests" / "fuzz" / "corpus" / fuzzer;
  std::filesystem::create_directories(folder);
  std::ofstream out(folder / name, std::ios::binary);
  out << bytes;
  BATON_CHECK(out.good()) << folder / name;
}

Ticket SomeTicket() {
  return {.key = {RequestId(77), 1},
          .receiver_boot = BootId(5),
          .generation = 3,
          .layout_fingerprint = 0x1234,
          .first_block = 2,
          .num_blocks = 4,
          .mac = {0x56, 0x78}};
}

void WriteKvWire() {
  const Ticket ticket = SomeTicket();
  const KvLayout layout{.num_layers = 4, .num_kv_heads = 2, .head_dim = 64};
  const std::pair<const char*, WireMessage> messages[] = {
      {"hello", HelloMessage{BootId(5), 0x1234, layout, "decode-0"}},
      {"begin", BeginMessage{ticket}},
      {"blocks", BlocksMessage{ticket, 1, 2, 3, 4096, 0xabcd}},
      {"tail", TailMessage{ticket, {.first_tokens = {7, 8, 9}}}},
      {"sealed", SealedMessage{ticket}},
      {"abort", AbortMessage{ticket, HandoffFailure::kChecksum}},
      {"ping", PingMessage{}},
      {"pong", PongMessage{}},
      {"goodbye", GoodbyeMessage{"draining"}}};
  for (const auto& [name, message] : messages) Write("kv_wire", name, EncodeMessage(message));
  Write("kv_wire", "ticket", EncodeTicket(ticket));
}

std::string Frame(std::string_view body) {
  return ByteWriter()
      .Put<uint32_t>(0x314f5442)
      .Put<uint32_t>(static_cast<uint32_t>(body.size()))
      .PutBytes(body)
      .Take();
}

void WriteSideChannel() {
  Write("side_channel", "frames", Frame("hello") + Frame("") + Frame(std::string(300, 'x')));
  Write("side_channel", "half", Frame("one") + Frame("two").substr(0, 9));
  Write("side_channel", "too_long",
        ByteWriter().Put<uint32_t>(0x314f5442).Put<uint32_t>(0x10001).Take());
}

void FillSpec(v1::GenerationSpec* spec) {
  for (const int32_t token : {1, 2, 49}) spec->add_tokens(token);
  spec->set_prompt_length(3);
  spec->set_num_samples(2);
  spec->set_cache_salt(99);
  v1::SamplingSpec* sampling = spec->mutable_sampling();
  sampling->set_temperature(0.5f);
  sampling->set_top_p(0.9f);
  sampling->set_top_k(40);
  sampling->set_repetition_penalty(1.2f);
  sampling->set_seed(11);
  v1::LogitBias* bias = sampling->add_logit_bias();
  bias->set_token(3);
  bias->set_bias(5.0f);
  sampling->set_num_logprobs(4);
  sampling->set_num_prompt_logprobs(-1);
  spec->mutable_stopping()->set_max_tokens(20);
  spec->mutable_stopping()->add_stop_token_ids(7);
}

// Reserve, Prefill and Generate have these fields alike.
template <typename Command>
void FillCommand(Command* command) {
  command->mutable_key()->set_request(77);
  command->mutable_key()->set_attempt(1);
  FillSpec(command->mutable_spec());
  command->set_deadline_ms(30000);
  command->mutable_objective()->set_ttft_left_ms(500);
  command->mutable_objective()->set_tpot_ms(50);
}

void WriteCommands() {
  v1::RouterMessage message;
  FillCommand(message.mutable_reserve());
  message.mutable_reserve()->set_lease_ms(10000);
  Write("worker_command", "reserve", message.SerializeAsString());
  FillCommand(message.mutable_generate());
  Write("worker_command", "generate", message.SerializeAsString());
  v1::Prefill* prefill = message.mutable_prefill();
  FillCommand(prefill);
  prefill->set_ticket(EncodeTicket(SomeTicket()));
  prefill->set_first_missing_token(1);
  prefill->mutable_destination()->set_host("127.0.0.1");
  prefill->mutable_destination()->set_port(9100);
  prefill->mutable_destination()->set_machine_id("m");
  Write("worker_command", "prefill", message.SerializeAsString());
  message.mutable_abort()->mutable_key()->set_request(77);
  message.mutable_abort()->set_sample(1);
  Write("worker_command", "abort", message.SerializeAsString());
  message.mutable_hello()->set_router_id("r");
  Write("worker_command", "hello", message.SerializeAsString());
  message.mutable_drain();
  Write("worker_command", "drain", message.SerializeAsString());
}

void WriteWelcomeAndStatus() {
  v1::WorkerMessage message;
  v1::Welcome* welcome = message.mutable_welcome();
  welcome->set_worker_id("decode-0");
  welcome->set_role(v1::WORKER_ROLE_DECODE);
  welcome->set_vocab_size(258);
  welcome->set_max_model_len(64);
  welcome->set_block_size(16);
  welcome->set_total_blocks(100);
  welcome->mutable_kv_address()->set_host("127.0.0.1");
  welcome->mutable_step_model()->set_prefill_base_ms(1.5);
  Write("worker_message", "welcome", message.SerializeAsString());
  StatusSnapshot snapshot;
  snapshot.running = 3;
  snapshot.blocks.free = 90;
  snapshot.blocks.reserved = 4;
  StatusToProto(snapshot, 2, absl::UnixEpoch(), message.mutable_status());
  Write("worker_message", "status", message.SerializeAsString());
  v1::BlockCensus* blocks = message.mutable_status()->mutable_blocks();
  blocks->set_in_use(INT32_MAX);
  blocks->set_sealed(INT32_MAX);
  blocks->set_free(INT32_MAX);
  blocks->set_cached(INT32_MAX);
  Write("worker_message", "status_of_too_many_blocks", message.SerializeAsString());
  v1::KvEvents* events = message.mutable_kv_events();
  KvBatchToProto({.sequence = 1, .snapshot = true, .changes = {.removed = {3}, .stored = {1, 2}}},
                 events);
  Write("worker_message", "kv_events", message.SerializeAsString());
}

void WriteReplies() {
  const RequestKey key{RequestId(77), 1};
  const TokenOutput token{
      .sample = 0, .index = 1, .token = 7, .logprob = -0.5f, .top_logprobs = {{7, -0.5f}}};
  const std::pair<const char*, WorkerReply> replies[] = {
      {"reserved", {key, ReservedReply{SomeTicket(), 16}}},
      {"refused", {key, RefusedReply{RefuseReason::kNoRoom, "full"}}},
      {"tokens", {key, TokensReply{{token}, true}}},
      {"prompt_logprobs", {key, PromptLogprobsReply{{token}}}},
      {"prefill_done", {key, PrefillDoneReply{.cached_tokens = 16}}},
      {"sealed", {key, SealedReply{.stats = {.bytes = 4096, .transport = "tcp"}}}},
      {"joined", {key, JoinedReply{}}},
      {"finished", {key, FinishedReply{.finish = {.stop_token = 2, .output_tokens = 5}}}},
      {"failed", {key, FailedReply{FailReason::kPeerLost, "gone"}}}};
  v1::WorkerMessage batch;
  for (const auto& [name, reply] : replies) {
    v1::WorkerMessage message;
    ReplyToProto(reply, &message);
    Write("worker_message", name, message.SerializeAsString());
    *batch.mutable_batch()->add_messages() = message;
  }
  Write("worker_message", "batch", batch.SerializeAsString());
}

void WriteGrpcRequests() {
  v1::CompletionRequest request;
  request.set_text("Once upon");
  request.mutable_sampling()->set_temperature(0.7f);
  request.mutable_sampling()->set_seed(5);
  (*request.mutable_sampling()->mutable_logit_bias())[3] = 5.0f;
  request.mutable_stopping()->set_max_tokens(8);
  request.mutable_stopping()->add_stop("\n\n");
  request.mutable_slo()->set_slo_class("batch");
  request.mutable_slo()->set_ttft_ms(500);
  request.mutable_output()->set_logprobs(2);
  request.set_n(2);
  request.set_cache_salt("salt");
  Write("grpc_request", "text", request.SerializeAsString());
  v1::CompletionRequest ids;
  for (const int32_t id : {256, 65, 66}) ids.mutable_token_ids()->add_ids(id);
  ids.set_model("demo");
  ids.set_request_id("r-1");
  Write("grpc_request", "token_ids", ids.SerializeAsString());
  v1::CompletionRequest chat;
  v1::ChatMessage* message = chat.mutable_messages()->add_messages();
  message->set_role("user");
  message->set_content("hi");
  Write("grpc_request", "messages", chat.SerializeAsString());
}

void WriteModels() {
  const std::string weights = SafetensorsOf(SmallestTensors());
  Write("safetensors", "smallest", weights);
  Write("safetensors", "metadata",
        SafetensorsBytes(R"({"__metadata__":{"format":"pt"},)"
                         R"("a":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]},)"
                         R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}})",
                         6));
  Write("model_files", "smallest", std::string(kSmallestConfig) + '\0' + weights);
}

void WriteRankMessages() {
  const std::vector<TokenId> tokens = {5, 6, 7};
  const std::vector<BlockId> blocks = {BlockId(8), BlockId(2)};
  const ForwardSequence sequence{
      .tokens = tokens, .start_position = 12, .block_table = blocks, .first_logit_token = 2};
  const ForwardSequence ahead{.tokens = {tokens.data(), 1},
                              .start_position = 30,
                              .block_table = blocks,
                              .first_logit_token = 0,
                              .draw = 2};
  const KvBlockCopy copy{BlockId(3), BlockId(4)};
  Write("rank_message", "room", EncodeRoom());
  Write("rank_message", "pool", EncodePool(77));
  Write("rank_message", "warm_up", EncodeWarmUp(64));
  Write("rank_message", "answer", EncodeAnswer(RankAnswer{.num_blocks = 9, .handle = "handle"}));
  Write("rank_message", "refusal", EncodeAnswer(absl::ResourceExhaustedError("no room")));
  Write("rank_message", "copies", EncodeCopies({&copy, 1}));
  Write("rank_message", "forward", EncodeForward({&sequence, 1}));
  Write("rank_message", "ahead", EncodeForward({&ahead, 1}));
}

}  // namespace
}  // namespace baton

int main() {
  baton::WriteKvWire();
  baton::WriteSideChannel();
  baton::WriteCommands();
  baton::WriteWelcomeAndStatus();
  baton::WriteReplies();
  baton::WriteGrpcRequests();
  baton::WriteModels();
  baton::WriteRankMessages();
  return 0;
}
