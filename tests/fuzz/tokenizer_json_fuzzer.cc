// tokenizer.json. A file that loads gives a tokenizer that keeps its word on texts that are hard to
// split: ids that it knows, text that is UTF-8, the same piecewise and at once.
#include <cstdint>
#include <string>

#include "engine/tokenizer/tokenizer.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/temp_model.h"
#include "tests/fuzz/tokenizer_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  static const TempModel directory;
  directory.Write("tokenizer.json", TextOf(data, size));
  const auto tokenizer = Tokenizer::Load(directory.path());
  if (!tokenizer.ok()) {
    BATON_CHECK(absl::IsInvalidArgument(tokenizer.status())) << tokenizer.status();
    return 0;
  }
  CheckTokenizer(**tokenizer, "");
  CheckTokenizer(**tokenizer, "a 1 \xc3\xa9\xff <s>  \xe5\x8c\x97\n'll aaaa\xf0\x9f\x98");
  return 0;
}
