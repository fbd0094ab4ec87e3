// Encode and Decode in MB/s on the demo model's tokenizer, and rendering of its chat template.
//   tokenizer_bench [--benchmark_filter=…]    the sources' folder is fixed at build time.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "common/check.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/support/source_dir.h"

namespace baton {
namespace {

const std::string kSource = SourceDir();

// English sentences with numbers and punctuation; words repeat as they do in prose.
std::string MakeText(size_t bytes) {
  static constexpr const char* kWords[] = {"the",  "river",  "carries", "a",      "stone", "under",
                                           "old",  "bridge", "and",     "winter", "light", "it's",
                                           "1984", "from",   "market",  "window", "letter"};
  std::string text;
  uint32_t state = 1;
  for (size_t i = 0; text.size() < bytes; ++i) {
    state = state * 1664525u + 1013904223u;
    text += kWords[(state >> 16) % std::size(kWords)];
    text += i % 11 == 10 ? ".\n" : " ";
  }
  return text;
}

std::unique_ptr<Tokenizer> Load(const std::string& folder) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(kSource + folder);
  BATON_CHECK_OK(tokenizer.status());
  return *std::move(tokenizer);
}

void Encode(benchmark::State& state, const std::string& folder) {
  const std::unique_ptr<Tokenizer> tokenizer = Load(folder);
  const std::string text = MakeText(static_cast<size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Encode(text, true, false));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}
BENCHMARK_CAPTURE(Encode, demo, "/models/demo")->Arg(2'000)->Arg(1'000'000);
BENCHMARK_CAPTURE(Encode, llama3, "/tests/golden/tokenizer/llama3")->Arg(1'000'000);
BENCHMARK_CAPTURE(Encode, qwen2, "/tests/golden/tokenizer/qwen2")->Arg(1'000'000);
BENCHMARK_CAPTURE(Encode, llama2, "/tests/golden/tokenizer/llama2")->Arg(1'000'000);

void Decode(benchmark::State& state) {
  const std::unique_ptr<Tokenizer> tokenizer = Load("/models/demo");
  const std::string text = MakeText(1'000'000);
  const std::vector<TokenId> tokens = tokenizer->Encode(text, false, false);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Decode(tokens, true));
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations() * tokens.size()));
}
BENCHMARK(Decode);

void RenderChat(benchmark::State& state) {
  const auto loaded = ChatTemplate::Load(kSource + "/models/demo");
  BATON_CHECK_OK(loaded.status());
  std::string context = R"({"add_generation_prompt": true, "messages": [)";
  for (int i = 0; i < 20; ++i) {
    context += i > 0 ? "," : "";
    context += R"({"role": ")" + std::string(i % 2 == 0 ? "user" : "assistant") +
               R"(", "content": "The river carries the stone under the old bridge."})";
  }
  context += "]}";
  for (auto _ : state) benchmark::DoNotOptimize((*loaded)->Render(context));
}
BENCHMARK(RenderChat);

}  // namespace
}  // namespace baton
