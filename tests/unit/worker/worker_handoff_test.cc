// Whole workers in one process with the real engine on random weights, over every transport: what a
// prefill and a decode worker answer together is what a worker of role both answers alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "common/check.h"
#include "tests/unit/worker/test_worker.h"
#include "worker/kv_transport.h"

namespace baton {
namespace {

constexpr int32_t kVocab = 160;
constexpr int32_t kBlocks = 96;

// Odd head counts, grouped KV heads, tied embeddings; a few thousand weights.
constexpr char kConfig[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
  "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 160,
  "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
  "tie_word_embeddings": true, "torch_dtype": "bfloat16", "eos_token_id": 0, "bos_token_id": 0
})";

// kConfig in a file that goes with the process.
class ConfigFile {
 public:
  ConfigFile()
      : path_(std::filesystem::path(testing::TempDir()) /
              ("baton_handoff_" + std::to_string(getpid()) + ".json")) {
    std::ofstream(path_) << kConfig;
  }
  ~ConfigFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  const std::filesystem::path path_;
};

std::string ConfigPath() {
  static const ConfigFile file;
  return file.path();
}

WorkerOptions OptionsOf(WorkerRole role) {
  WorkerOptions options = TestWorker::OptionsOf(role);
  options.engine.model.path = "dummy:" + ConfigPath();
  options.engine.num_blocks = kBlocks;
  options.engine.scheduler.max_batch_tokens = 48;
  options.engine.scheduler.prefill_chunk_tokens = 32;
  return options;
}

// The transport `name` for workers of one test; loopback ones share a hub.
MakeTransportFn TransportOf(const std::string& name) {
  if (name == "loopback") {
    return [hub = MakeLoopbackHub()] { return MakeLoopbackFactory(hub); };
  }
  return [name] {
    auto transport = MakeKvTransport(name);
    BATON_CHECK(transport.ok()) << transport.status().ToString();
    return std::move(transport->factory);
  };
}

// Requests of many kinds: greedy and seeded, penalties, several samples, shared prompt beginnings.
GenerationSpec SpecOf(uint64_t index) {
  std::mt19937_64 random(index);
  const int32_t length = 1 + static_cast<int32_t>(random() % 100);
  GenerationSpec spec{.prompt_length = length,
                      .num_samples = 1 + static_cast<int32_t>(index % 3),
                      .sampling = {.temperature = index % 2 == 0 ? 0.0f : 0.9f, .seed = index},
                      .stopping = {.max_tokens = 1 + static_cast<int32_t>(random() % 24)}};
  if (index % 5 == 3) spec.sampling.frequency_penalty = 0.7f;
  if (index % 7 == 1) spec.sampling.top_k = 20;
  std::mt19937_64 prompt(index % 4);
  for (int32_t i = 0; i < length; ++i) {
    spec.tokens.push_back(static_cast<TokenId>(1 + prompt() % (kVocab - 1)));
  }
  return spec;
}

class WorkerHandoff : public testing::TestWithParam<std::string> {
 protected:
  WorkerHandoff()
      : prefill_(OptionsOf(WorkerRole::kPrefill), transport_, Engine::Load),
        decode_(OptionsOf(WorkerRole::kDecode), transport_, Engine::Load),
        to_prefill_(prefill_.port()),
        to_decode_(decode_.port()) {
    BATON_CHECK(to_prefill_.Hello("router", 1) && to_decode_.Hello("router", 1));
  }

  // Waits for the decode worker's answer to Reserve, then starts the prefill. False: refused.
  bool StartPrefill(uint64_t request, const GenerationSpec& spec) {
    Transcript seen;
    BATON_CHECK(to_decode_.WaitFor([&](const SessionClient& client) {
      seen = TranscriptOf({&client}, request, spec.num_samples);
      return seen.reserved || seen.refused;
    })) << request;
    if (seen.refused) return false;
    to_prefill_.Send(
        PrefillMessage(request, spec, seen.reservation, to_decode_.welcome().kv_address()));
    return true;
  }
  Transcript WaitForEnd(uint64_t request, int32_t samples) {
    const auto ended = [&](const SessionClient& client) {
      const Transcript seen = TranscriptOf({&client}, request, samples);
      return seen.failed || seen.refused || seen.AllFinished();
    };
    EXPECT_TRUE(to_decode_.WaitFor(ended)) << request;
    EXPECT_TRUE(to_prefill_.WaitFor([&](const SessionClient& client) {
      const Transcript seen = TranscriptOf({&client}, request, samples);
      return seen.failed || seen.refused || seen.prefill_done;
    })) << request;
    return TranscriptOf({&to_prefill_, &to_decode_}, request, samples);
  }
  void ExpectNothingHeld() {
    for (SessionClient* client : {&to_prefill_, &to_decode_}) {
      EXPECT_TRUE(client->WaitFor([](const SessionClient& c) { return HoldsNothing(c, kBlocks); }))
          << client->LastStatus().DebugString();
    }
  }

  const MakeTransportFn transport_ = TransportOf(GetParam());
  TestWorker prefill_, decode_;
  SessionClient to_prefill_, to_decode_;
};

TEST_P(WorkerHandoff, GivesTheTokensOfAColocatedWorker) {
  constexpr uint64_t kRequests = 40;
  constexpr uint64_t kAtOnce = 5;
  TestWorker both(OptionsOf(WorkerRole::kBoth), transport_, Engine::Load);
  SessionClient to_both(both.port());
  ASSERT_TRUE(to_both.Hello("router", 1));
  for (uint64_t begin = 0; begin < kRequests; begin += kAtOnce) {
    for (uint64_t i = begin; i < begin + kAtOnce; ++i) {
      to_decode_.Send(ReserveMessage(1 + i, SpecOf(i)));
      to_both.Send(GenerateMessage(1 + i, SpecOf(i)));
    }
    for (uint64_t i = begin; i < begin + kAtOnce; ++i) ASSERT_TRUE(StartPrefill(1 + i, SpecOf(i)));
    for (uint64_t i = begin; i < begin + kAtOnce; ++i) {
      SCOPED_TRACE(testing::Message() << "request " << i);
      const int32_t samples = SpecOf(i).num_samples;
      const Transcript handed_over = WaitForEnd(1 + i, samples);
      ASSERT_FALSE(handed_over.failed) << handed_over.failure.DebugString();
      EXPECT_TRUE(handed_over.sealed);
      ASSERT_TRUE(to_both.WaitFor([&](const SessionClient& client) {
        return TranscriptOf({&client}, 1 + i, samples).AllFinished();
      }));
      const Transcript in_place = TranscriptOf({&to_both}, 1 + i, samples);
      EXPECT_EQ(handed_over.tokens, in_place.tokens);
      EXPECT_EQ(handed_over.finish_reasons, in_place.finish_reasons);
      for (const auto& tokens : in_place.tokens) EXPECT_FALSE(tokens.empty());
    }
  }
  ExpectNothingHeld();
}

TEST_P(WorkerHandoff, APromptPrefilledInPlaceAmongHandoffsGivesTheSameTokens) {
  constexpr uint64_t kRequests = 12;
  TestWorker both(OptionsOf(WorkerRole::kBoth), transport_, Engine::Load);
  SessionClient to_both(both.port());
  ASSERT_TRUE(to_both.Hello("router", 1));
  const auto in_place = [](uint64_t i) { return i % 2 == 1; };
  const auto generate = [](uint64_t i) {
    v1::RouterMessage message = GenerateMessage(1 + i, SpecOf(i));
    // Tight enough that chunks beside running rows are cut.
    message.mutable_generate()->mutable_objective()->set_ttft_left_ms(100);
    message.mutable_generate()->mutable_objective()->set_tpot_ms(0.5f);
    return message;
  };
  for (uint64_t i = 0; i < kRequests; ++i) {
    to_both.Send(GenerateMessage(1 + i, SpecOf(i)));
    ASSERT_TRUE(to_both.WaitFor([&](const SessionClient& client) {
      return TranscriptOf({&client}, 1 + i, SpecOf(i).num_samples).AllFinished();
    }));
    to_decode_.Send(in_place(i) ? generate(i) : ReserveMessage(1 + i, SpecOf(i)));
  }
  for (uint64_t i = 0; i < kRequests; ++i) {
    const bool started = in_place(i) || StartPrefill(1 + i, SpecOf(i));
    ASSERT_TRUE(started);
  }
  for (uint64_t i = 0; i < kRequests; ++i) {
    SCOPED_TRACE(testing::Message() << "request " << i);
    const int32_t samples = SpecOf(i).num_samples;
    EXPECT_TRUE(to_decode_.WaitFor([&](const SessionClient& client) {
      return TranscriptOf({&client}, 1 + i, samples).AllFinished();
    }));
    const Transcript answer =
        in_place(i) ? TranscriptOf({&to_decode_}, 1 + i, samples) : WaitForEnd(1 + i, samples);
    EXPECT_EQ(answer.sealed, !in_place(i));
    EXPECT_EQ(answer.tokens, TranscriptOf({&to_both}, 1 + i, samples).tokens);
  }
  ExpectNothingHeld();
}

TEST_P(WorkerHandoff, AHundredRandomCancelsLeaveNothingHeld) {
  const uint64_t seed = 7;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  int cancelled = 0, refused = 0;
  for (uint64_t i = 0; i < 100; ++i) {
    const uint64_t request = 1000 + i;
    const GenerationSpec spec = SpecOf(random() % 1000);
    to_decode_.Send(ReserveMessage(request, spec));
    const uint64_t moment = random() % 5;
    if (moment > 0 && !StartPrefill(request, spec)) {
      ++refused;
      continue;
    }
    if (moment == 2) {
      to_prefill_.WaitFor([&](const SessionClient& client) {
        const Transcript seen = TranscriptOf({&client}, request, spec.num_samples);
        return seen.refused || seen.failed || seen.prefill_done;
      });
    }
    if (moment == 3) WaitForEnd(request, spec.num_samples);
    if (moment == 4) continue;  // left to finish
    to_prefill_.Send(AbortMessage(request));
    to_decode_.Send(AbortMessage(request));
    ++cancelled;
  }
  EXPECT_GT(cancelled, 40);
  EXPECT_LT(refused, 50);
  ExpectNothingHeld();
  // The pair still serves.
  to_decode_.Send(ReserveMessage(9000, SpecOf(3)));
  ASSERT_TRUE(StartPrefill(9000, SpecOf(3)));
  EXPECT_FALSE(WaitForEnd(9000, SpecOf(3).num_samples).failed);
}

TEST_P(WorkerHandoff, APrefillWorkerThatGoesAwayIsReportedAndItsBlocksComeBack) {
  for (uint64_t i = 0; i < 6; ++i) to_decode_.Send(ReserveMessage(1 + i, SpecOf(i)));
  for (uint64_t i = 0; i < 6; ++i) ASSERT_TRUE(StartPrefill(1 + i, SpecOf(i)));
  prefill_.Kill();
  for (uint64_t i = 0; i < 6; ++i) {
    const int32_t samples = SpecOf(i).num_samples;
    // What was sealed goes on without its prefill worker; the rest fails.
    EXPECT_TRUE(to_decode_.WaitFor([&](const SessionClient& client) {
      const Transcript seen = TranscriptOf({&client}, 1 + i, samples);
      return seen.AllFinished() ||
             (seen.failed && (seen.failure.reason() == v1::Failed::PEER_LOST ||
                              seen.failure.reason() == v1::Failed::LEASE_EXPIRED));
    })) << TranscriptOf({&to_decode_}, 1 + i, samples).failure.DebugString();
  }
  EXPECT_TRUE(to_decode_.WaitFor([](const SessionClient& c) { return HoldsNothing(c, kBlocks); }))
      << to_decode_.LastStatus().DebugString();
}

INSTANTIATE_TEST_SUITE_P(Transports, WorkerHandoff, testing::Values("loopback", "shm", "tcp"),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace baton
