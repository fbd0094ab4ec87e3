// The tokenizer of a model that has only a config: for `dummy:CONFIG.json` and --load-format dummy
// without tokenizer.json, where weights are random and text means nothing.
#pragma once

#include <memory>

#include "engine/tokenizer/tokenizer.h"

namespace baton {

// A byte of text is the token of that value (modulo `vocab_size`); tokens from 256 on read as a
// space and their number, so that any output is printable. No special tokens.
std::unique_ptr<Tokenizer> MakeDummyTokenizer(int32_t vocab_size);

}  // namespace baton
