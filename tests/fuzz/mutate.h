// Seeded mutations of texts, for fuzz smoke tests.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace baton {

// `text` after a few random edits: bytes flipped, cut out, doubled, or a word of `dictionary`
// inserted. The same generator state gives the same result.
inline std::string Mutate(std::string text, const std::vector<std::string>& dictionary,
                          std::mt19937& random) {
  const auto below = [&random](size_t limit) { return limit == 0 ? 0 : random() % limit; };
  const size_t edits = 1 + below(6);
  for (size_t i = 0; i < edits; ++i) {
    const size_t at = below(text.size() + 1);
    const size_t length = std::min(text.size() - at, below(16) == 0 ? below(4096) : below(12));
    switch (below(6)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, text.substr(at, length));
        break;
      case 3: {  // a stretch moves elsewhere
        const std::string part = text.substr(at, length);
        text.erase(at, length);
        text.insert(below(text.size() + 1), part);
        break;
      }
      default:
        if (!dictionary.empty()) text.insert(at, dictionary[below(dictionary.size())]);
        break;
    }
    if (below(40) == 0) text.resize(below(text.size() + 1));
  }
  return text;
}

}  // namespace baton
