// Workers with a toy engine over loopback, for tests of whole processes.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "common/check.h"
#include "tests/unit/worker/test_worker.h"

namespace baton {

inline constexpr int32_t kMaxLen = 256;  // of the toy engine

inline GenerationSpec SpecOf(uint64_t seed, int32_t prompt_tokens, int32_t max_tokens,
                             int32_t samples = 1) {
  std::mt19937_64 random(seed);
  GenerationSpec spec{.prompt_length = prompt_tokens,
                      .num_samples = samples,
                      .sampling = {.temperature = 1.0f, .seed = seed},
                      .stopping = {.max_tokens = max_tokens}};
  for (int32_t i = 0; i < prompt_tokens; ++i) {
    spec.tokens.push_back(static_cast<TokenId>(1 + random() % (kToyVocab - 1)));
  }
  return spec;
}

inline MakeTransportFn Loopback() {
  return [hub = MakeLoopbackHub()] { return MakeLoopbackFactory(hub); };
}

inline bool Finished(const std::vector<const SessionClient*>& clients, uint64_t request,
                     int32_t samples) {
  return TranscriptOf(clients, request, samples).AllFinished();
}

// A prefill and a decode worker and a router's sessions to both.
struct Pair {
  explicit Pair(ToyEngineOptions toy = {}, ToyEngineOptions decode_toy = {})
      : prefill(WorkerRole::kPrefill, transport, toy),
        decode(WorkerRole::kDecode, transport, decode_toy),
        to_prefill(prefill.port()),
        to_decode(decode.port()) {
    BATON_CHECK(to_prefill.Hello("router", 1) && to_decode.Hello("router", 1));
  }

  // Reserve, then Prefill; false when the decode worker refused.
  bool Start(uint64_t request, const GenerationSpec& spec) {
    to_decode.Send(ReserveMessage(request, spec));
    Transcript transcript;
    BATON_CHECK(to_decode.WaitFor([&](const SessionClient& client) {
      transcript = TranscriptOf({&client}, request, spec.num_samples);
      return transcript.reserved || transcript.refused;
    })) << request;
    if (transcript.refused) return false;
    to_prefill.Send(
        PrefillMessage(request, spec, transcript.reservation, to_decode.welcome().kv_address()));
    return true;
  }
  Transcript Wait(uint64_t request, int32_t samples) {
    to_decode.WaitFor([&](const SessionClient& client) {
      const Transcript transcript = TranscriptOf({&client}, request, samples);
      return transcript.failed || transcript.AllFinished();
    });
    to_prefill.WaitFor([&](const SessionClient& client) {
      const Transcript transcript = TranscriptOf({&client}, request, samples);
      return transcript.failed || transcript.prefill_done;
    });
    return TranscriptOf({&to_prefill, &to_decode}, request, samples);
  }
  void ExpectNothingHeld() {
    EXPECT_TRUE(to_prefill.WaitFor([&](const SessionClient& c) { return HoldsNothing(c, 64); }))
        << to_prefill.LastStatus().DebugString();
    EXPECT_TRUE(to_decode.WaitFor([&](const SessionClient& c) { return HoldsNothing(c, 64); }))
        << to_decode.LastStatus().DebugString();
  }

  MakeTransportFn transport = Loopback();
  TestWorker prefill, decode;
  SessionClient to_prefill, to_decode;
};

}  // namespace baton
