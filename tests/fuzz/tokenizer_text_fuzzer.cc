// Texts of any bytes through the tokenizers of tests/golden, one of each family.
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/check.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/tokenizer_checks.h"
#include "tests/support/source_dir.h"

namespace baton {
namespace {

constexpr std::array kFamilies = {"llama3", "qwen2", "split", "llama2", "metaspace"};

std::vector<std::unique_ptr<Tokenizer>> LoadAll() {
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  for (const char* family : kFamilies) {
    auto loaded = Tokenizer::Load(SourceDir() + "/tests/golden/tokenizer/" + family);
    BATON_CHECK(loaded.ok()) << loaded.status();
    tokenizers.push_back(*std::move(loaded));
  }
  return tokenizers;
}

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  static const std::vector<std::unique_ptr<Tokenizer>> tokenizers = LoadAll();
  for (const auto& tokenizer : tokenizers) CheckTokenizer(*tokenizer, TextOf(data, size));
  return 0;
}
