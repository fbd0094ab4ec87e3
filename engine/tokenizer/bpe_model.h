// Byte-pair encoding of one piece of text.
//
// Symbols start as the piece's characters (or bytes, for a byte-level vocabulary) and the adjacent
// pair with the best merge is joined until none is left; of equal merges the leftmost goes first.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ids.h"
#include "engine/tokenizer/tokenizer_spec.h"

namespace baton {

// Immutable after Create and thread-safe.
class BpeModel {
 public:
  // `byte_level`: pieces are raw bytes and the vocabulary spells bytes in the byte-level alphabet.
  // INVALID_ARGUMENT when merges name tokens that the vocabulary lacks.
  static absl::StatusOr<std::unique_ptr<BpeModel>> Create(const BpeSpec& spec, bool byte_level);

  // Encodes the pieces of one text. Remembers the words that it has seen, which needs no lock since
  // it lives for one text only. Not thread-safe.
  class Encoder {
   public:
    // `out` gets the ids; both arguments outlive the encoder.
    Encoder(const BpeModel& model, std::vector<TokenId>& out) : model_(model), out_(out) {}
    // REQUIRES: `piece` stays in place for the encoder's life; well-formed UTF-8 unless byte-level.
    void Add(std::string_view piece);

   private:
    struct Range {
      size_t begin = 0;
      size_t length = 0;
    };
    struct Symbol {
      TokenId id = 0;
      int32_t previous = -1;  // index of the neighbour, -1: none
      int32_t next = -1;
      bool merged_away = false;
    };

    void AddWord(std::string_view word);
    void MergeShort();
    void MergeLong();
    void ReadBytes(std::string_view word);
    void ReadCharacters(std::string_view word);
    bool ReadByteFallback(std::string_view character);

    const BpeModel& model_;
    std::vector<TokenId>& out_;
    // Where in `out_` the ids of a word seen before stand. Only words short enough to repeat.
    absl::flat_hash_map<absl::string_view, Range> seen_;
    std::vector<TokenId> symbols_;        // scratch: the word's symbols, before and after merging
    std::vector<uint64_t> short_merges_;  // scratch of MergeShort
  };

 private:
  struct Merge {
    int32_t rank = 0;  // smaller is better
    TokenId result = 0;
  };

  static uint64_t PairKey(uint32_t left, uint32_t right) { return (uint64_t{left} << 32) | right; }
  const Merge* FindMerge(TokenId left, TokenId right) const {
    const auto it =
        merges_.find(PairKey(static_cast<uint32_t>(left), static_cast<uint32_t>(right)));
    return it == merges_.end() ? nullptr : &it->second;
  }
  absl::Status AddMerges(const BpeSpec& spec);
  void FindJoints(const BpeSpec& spec);

  bool byte_level_ = false;
  bool fuse_unk_ = false;
  bool ignore_merges_ = false;
  TokenId unk_ = -1;
  std::array<TokenId, 256> byte_ids_{};  // byte-level symbols or byte fallback, -1: none
  bool byte_fallback_ = false;
  absl::flat_hash_map<char32_t, TokenId> characters_;  // one-character tokens (not byte-level)
  // Whole tokens, for ignore_merges only: raw bytes if byte-level.
  absl::flat_hash_map<std::string, TokenId> words_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // PairKey(left id, right id)
  // Not byte-level: PairKey of each two neighbouring characters inside a merge's result. Between
  // two characters that are not here no merge can happen, so a long text falls apart into words
  // there without changing its ids. Empty with `joints_known_` false: unknown.
  absl::flat_hash_set<uint64_t> joints_;
  bool joints_known_ = false;
};

}  // namespace baton
