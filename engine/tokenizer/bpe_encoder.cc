// The merging itself: BpeModel::Encoder.
#include <algorithm>

#include "common/check.h"
#include "common/strings.h"
#include "engine/tokenizer/bpe_model.h"
#include "engine/tokenizer/rank_queue.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

// Longer words are not worth remembering: they hardly repeat.
constexpr size_t kMaxSeenWordBytes = 64;
// Up to this many symbols a scan for the best pair beats a queue.
constexpr size_t kShortWordSymbols = 64;
constexpr uint64_t kNoMerge = ~uint64_t{0};

}  // namespace

void BpeModel::Encoder::Add(std::string_view piece) {
  if (model_.byte_level_ || model_.ignore_merges_ || !model_.joints_known_) {
    AddWord(piece);
    return;
  }
  // Cut between characters that no merge joins. Both must be known: an unknown one takes part in
  // fusing with its neighbours.
  size_t begin = 0;
  char32_t previous = 0;
  bool previous_known = false;
  for (size_t pos = 0; pos < piece.size();) {
    const Utf8Char c = DecodeUtf8(piece, pos);
    const bool known = model_.characters_.contains(c.code_point);
    if (pos > begin && known && previous_known &&
        !model_.joints_.contains(PairKey(previous, c.code_point))) {
      AddWord(piece.substr(begin, pos - begin));
      begin = pos;
    }
    previous = c.code_point;
    previous_known = known;
    pos += c.length_bytes;
  }
  if (begin < piece.size()) AddWord(piece.substr(begin));
}

void BpeModel::Encoder::AddWord(std::string_view word) {
  const bool remember = word.size() <= kMaxSeenWordBytes;
  if (remember) {
    if (const auto it = seen_.find(View(word)); it != seen_.end()) {
      const Range range = it->second;
      for (size_t i = 0; i < range.length; ++i) {
        const TokenId id = out_[range.begin + i];
        out_.push_back(id);
      }
      return;
    }
  }
  const size_t begin = out_.size();
  const auto whole = model_.ignore_merges_ ? model_.words_.find(View(word)) : model_.words_.end();
  if (whole != model_.words_.end()) {
    out_.push_back(whole->second);
  } else {
    symbols_.clear();
    if (model_.byte_level_) {
      ReadBytes(word);
    } else {
      ReadCharacters(word);
    }
    if (symbols_.size() <= kShortWordSymbols) {
      MergeShort();
    } else {
      MergeLong();
    }
    out_.insert(out_.end(), symbols_.begin(), symbols_.end());
  }
  if (remember) seen_.emplace(View(word), Range{begin, out_.size() - begin});
}

void BpeModel::Encoder::ReadBytes(std::string_view word) {
  bool last_was_unk = false;
  for (const char c : word) {
    const TokenId id = model_.byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0) {
      symbols_.push_back(id);
    } else if (model_.unk_ >= 0 && !(model_.fuse_unk_ && last_was_unk)) {
      symbols_.push_back(model_.unk_);
    }
    last_was_unk = id < 0;
  }
}

void BpeModel::Encoder::ReadCharacters(std::string_view word) {
  bool last_was_unk = false;
  for (size_t pos = 0; pos < word.size();) {
    const Utf8Char c = DecodeUtf8(word, pos);
    const std::string_view character = word.substr(pos, c.length_bytes);
    pos += c.length_bytes;
    if (const auto it = model_.characters_.find(c.code_point); it != model_.characters_.end()) {
      symbols_.push_back(it->second);
      last_was_unk = false;
    } else if (ReadByteFallback(character)) {
      last_was_unk = false;
    } else if (model_.unk_ >= 0) {
      if (!(model_.fuse_unk_ && last_was_unk)) symbols_.push_back(model_.unk_);
      last_was_unk = true;
    }
  }
}

bool BpeModel::Encoder::ReadByteFallback(std::string_view character) {
  if (!model_.byte_fallback_) return false;
  const size_t before = symbols_.size();
  for (const char byte : character) {
    const TokenId id = model_.byte_ids_[static_cast<unsigned char>(byte)];
    if (id < 0) {
      symbols_.resize(before);
      return false;
    }
    symbols_.push_back(id);
  }
  return true;
}

// Quadratic in a small number of symbols. short_merges_[i] is (rank << 32 | result) of the pair
// (i, i + 1), or kNoMerge.
void BpeModel::Encoder::MergeShort() {
  const auto merge_at = [this](size_t i) {
    const Merge* merge = model_.FindMerge(symbols_[i], symbols_[i + 1]);
    return merge == nullptr
               ? kNoMerge
               : PairKey(static_cast<uint32_t>(merge->rank), static_cast<uint32_t>(merge->result));
  };
  short_merges_.clear();
  for (size_t i = 0; i + 1 < symbols_.size(); ++i) short_merges_.push_back(merge_at(i));
  while (!short_merges_.empty()) {
    const auto best = std::min_element(short_merges_.begin(), short_merges_.end());
    if (*best == kNoMerge) break;
    const auto i = static_cast<size_t>(best - short_merges_.begin());
    symbols_[i] = static_cast<TokenId>(*best & 0xFFFFFFFFu);
    symbols_.erase(symbols_.begin() + static_cast<ptrdiff_t>(i) + 1);
    short_merges_.erase(best);
    if (i > 0) short_merges_[i - 1] = merge_at(i - 1);
    if (i < short_merges_.size()) short_merges_[i] = merge_at(i);
  }
}

// A linked list of symbols and a queue of the pairs that may merge: O(n log n) at worst, and about
// linear on real text. An entry whose pair has changed meanwhile no longer has its rank and is
// dropped.
void BpeModel::Encoder::MergeLong() {
  BATON_CHECK(symbols_.size() < INT32_MAX) << symbols_.size();
  const auto count = static_cast<int32_t>(symbols_.size());
  std::vector<Symbol> list(symbols_.size());
  for (int32_t i = 0; i < count; ++i) {
    list[i] = {symbols_[i], i - 1, i + 1 < count ? i + 1 : -1, false};
  }
  RankQueue queue;
  const auto merge_of = [&](int32_t left) -> const Merge* {
    const Symbol& symbol = list[left];
    if (symbol.merged_away || symbol.next < 0) return nullptr;
    return model_.FindMerge(symbol.id, list[symbol.next].id);
  };
  const auto push = [&](int32_t left) {
    if (const Merge* merge = merge_of(left)) queue.Push({merge->rank, left});
  };
  for (int32_t i = 0; i < count; ++i) push(i);
  while (!queue.empty()) {
    const auto [rank, at] = queue.Pop();
    const Merge* merge = merge_of(at);
    if (merge == nullptr || merge->rank != rank) continue;
    Symbol& left = list[at];
    Symbol& right = list[left.next];
    left.id = merge->result;
    left.next = right.next;
    right.merged_away = true;
    if (left.next >= 0) list[left.next].previous = at;
    if (left.previous >= 0) push(left.previous);
    push(at);
  }
  symbols_.clear();
  for (const Symbol& symbol : list) {
    if (!symbol.merged_away) symbols_.push_back(symbol.id);
  }
}

}  // namespace baton
