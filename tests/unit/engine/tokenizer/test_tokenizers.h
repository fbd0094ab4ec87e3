// The golden tokenizers, loaded for other tests.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "tests/support/source_dir.h"

namespace baton {

inline constexpr const char* kTokenizerKinds[] = {"llama3",    "qwen2",           "gpt2",
                                                  "digits",    "split",           "llama2",
                                                  "metaspace", "metaspace_never", "mistral"};

inline std::unique_ptr<Tokenizer> LoadGoldenTokenizer(const std::string& kind) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> loaded =
      Tokenizer::Load(SourceDir() + "/tests/golden/tokenizer/" + kind);
  if (!loaded.ok()) {
    ADD_FAILURE() << loaded.status();
    std::abort();
  }
  return *std::move(loaded);
}

}  // namespace baton
