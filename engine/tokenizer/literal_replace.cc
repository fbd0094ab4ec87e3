#include "engine/tokenizer/literal_replace.h"

namespace baton {

std::string_view ReplaceLiteral(std::string_view text, std::string_view pattern,
                                std::string_view content, std::string& storage) {
  size_t found = text.find(pattern);
  if (found == std::string_view::npos) return text;
  storage.clear();
  storage.reserve(text.size());
  size_t done = 0;
  for (; found != std::string_view::npos; found = text.find(pattern, done)) {
    storage.append(text.substr(done, found - done)).append(content);
    done = found + pattern.size();
  }
  storage.append(text.substr(done));
  return storage;
}

}  // namespace baton
