#include "engine/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "engine/tokenizer/unicode/character.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

bool WordEndsAt(std::string_view text, size_t end) {
  return end > 0 && IsWordCharacter(DecodeUtf8(text, PreviousCharacter(text, end)).code_point);
}

bool WordStartsAt(std::string_view text, size_t begin) {
  return begin < text.size() && IsWordCharacter(DecodeUtf8(text, begin).code_point);
}

// Where the white space that ends at `end` begins, not looking left of `limit`.
size_t SpaceBefore(std::string_view text, size_t end, size_t limit) {
  while (end > limit) {
    const size_t previous = PreviousCharacter(text, end);
    if (!IsWhiteSpace(DecodeUtf8(text, previous).code_point)) break;
    end = previous;
  }
  return end;
}

size_t SpaceAfter(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const Utf8Char c = DecodeUtf8(text, begin);
    if (!IsWhiteSpace(c.code_point)) break;
    begin += c.length_bytes;
  }
  return begin;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedTokenSpec> tokens,
                                     const std::vector<std::string>& contents)
    : tokens_(std::move(tokens)), token_at_(1, -1) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (contents[i].empty()) continue;
    uint32_t node = 0;
    for (const char byte : contents[i]) {
      const auto [edge, is_new] =
          edges_.try_emplace(EdgeKey(node, byte), static_cast<uint32_t>(token_at_.size()));
      node = edge->second;
      if (is_new) token_at_.push_back(-1);
    }
    starts_[static_cast<unsigned char>(contents[i].front())] = true;
    if (token_at_[node] < 0) token_at_[node] = static_cast<int32_t>(i);
  }
}

AddedTokenMatcher::Found AddedTokenMatcher::LongestAt(std::string_view text, size_t pos) const {
  Found found;
  uint32_t node = 0;
  for (size_t at = pos; at < text.size(); ++at) {
    const auto edge = edges_.find(EdgeKey(node, text[at]));
    if (edge == edges_.end()) break;
    node = edge->second;
    if (token_at_[node] >= 0) {
      found = {&tokens_[static_cast<size_t>(token_at_[node])], at + 1 - pos};
    }
  }
  return found;
}

std::vector<AddedTokenMatcher::Section> AddedTokenMatcher::Cut(std::string_view text,
                                                               bool parse_special) const {
  std::vector<Section> sections;
  size_t done = 0;  // where the next section begins
  for (size_t pos = 0; pos < text.size();) {
    if (!starts_[static_cast<unsigned char>(text[pos])]) {
      ++pos;
      continue;
    }
    const auto [token, length] = LongestAt(text, pos);
    if (token == nullptr) {
      ++pos;
      continue;
    }
    size_t begin = pos;
    size_t end = pos + length;
    pos = end;
    if (token->special && !parse_special) continue;
    if (token->single_word && (WordEndsAt(text, begin) || WordStartsAt(text, end))) continue;
    if (token->lstrip) begin = SpaceBefore(text, begin, std::min(done, begin));
    if (token->rstrip) end = SpaceAfter(text, end);
    if (done < begin) sections.push_back({-1, text.substr(done, begin - done)});
    sections.push_back({token->id, text.substr(begin, end - begin)});
    // A token may lie inside the white space that the one before it took: then `done` moves back,
    // and the rest of that space is read again. `tokenizers` does so too.
    done = end;
  }
  if (done < text.size()) sections.push_back({-1, text.substr(done)});
  return sections;
}

}  // namespace baton
