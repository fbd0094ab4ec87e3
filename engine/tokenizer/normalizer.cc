#include "engine/tokenizer/normalizer.h"

#include <utility>

#include "engine/tokenizer/literal_replace.h"
#include "engine/tokenizer/unicode/nfc.h"

namespace baton {

std::string_view Normalizer::Apply(std::string_view text, std::string& storage) const {
  std::string_view current = text;
  for (const NormalizerStep& step : steps_) {
    if (current.empty()) break;
    std::string changed;
    std::string_view result = current;
    switch (step.kind) {
      case NormalizerStep::Kind::kNfc:
        result = NormalizeNfc(current, changed);
        break;
      case NormalizerStep::Kind::kReplace:
        result = ReplaceLiteral(current, step.pattern, step.content, changed);
        break;
      case NormalizerStep::Kind::kPrepend:
        changed.reserve(step.content.size() + current.size());
        changed.append(step.content).append(current);
        result = changed;
        break;
    }
    if (result.data() == current.data()) continue;
    storage = std::move(changed);
    current = storage;
  }
  return current;
}

}  // namespace baton
