// Readers for the pipeline parts of tokenizer.json. A part is one object with a "type", or a
// Sequence of such. Includes the JSON library: for .cc files of this folder only.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/json_field.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace baton {

absl::Status ReadNormalizer(const JsonField& field, std::vector<NormalizerStep>& steps);
absl::Status ReadPreTokenizer(const JsonField& field, std::vector<PreTokenizerStep>& steps);
absl::Status ReadPostProcessor(const JsonField& field, PostProcessorSpec& spec);
absl::StatusOr<DecoderSpec> ReadDecoder(const JsonField& field);

}  // namespace baton
