#include "engine/tokenizer/unicode/nfc.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <vector>

#include "common/check.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

// ICU sorts a run of combining marks by insertion, which is quadratic in the run's length. Runs
// longer than this are put in canonical order beforehand, after which ICU has nothing to move.
constexpr size_t kLongRunCharacters = 64;

bool JoinsRun(char32_t c) {
  return c >= 0x300 &&
         u_getIntPropertyValue(static_cast<UChar32>(c), UCHAR_LEAD_CANONICAL_COMBINING_CLASS) != 0;
}

void AppendDecomposed(const icu::Normalizer2& nfc, char32_t c, std::vector<char32_t>& run) {
  icu::UnicodeString decomposition;
  if (!nfc.getDecomposition(static_cast<UChar32>(c), decomposition)) {
    run.push_back(c);
    return;
  }
  for (int32_t i = 0; i < decomposition.length(); i = decomposition.moveIndex32(i, 1)) {
    run.push_back(static_cast<char32_t>(decomposition.char32At(i)));
  }
}

// Copies `text` with every long run of combining marks decomposed and stably sorted by combining
// class: a canonically equivalent text, so its NFC is the same.
std::string SortLongRuns(const icu::Normalizer2& nfc, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<char32_t> run;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    size_t characters = 0;
    for (; pos < text.size(); ++characters) {
      const Utf8Char c = DecodeUtf8(text, pos);
      if (!JoinsRun(c.code_point)) break;
      pos += c.length_bytes;
    }
    if (characters > kLongRunCharacters) {
      run.clear();
      for (size_t at = begin; at < pos;) {
        const Utf8Char c = DecodeUtf8(text, at);
        AppendDecomposed(nfc, c.code_point, run);
        at += c.length_bytes;
      }
      std::stable_sort(run.begin(), run.end(), [](char32_t a, char32_t b) {
        return u_getCombiningClass(static_cast<UChar32>(a)) <
               u_getCombiningClass(static_cast<UChar32>(b));
      });
      for (const char32_t c : run) AppendUtf8(c, out);
    } else {
      out.append(text.substr(begin, pos - begin));
    }
    if (pos < text.size()) {
      const size_t next = NextCharacter(text, pos);
      out.append(text.substr(pos, next - pos));
      pos = next;
    }
  }
  return out;
}

}  // namespace

std::string_view NormalizeNfc(std::string_view text, std::string& storage) {
  // Everything below U+0300 is in NFC.
  if (std::all_of(text.begin(), text.end(),
                  [](char c) { return static_cast<unsigned char>(c) < 0xCC; })) {
    return text;
  }
  BATON_CHECK(text.size() < (size_t{1} << 30)) << text.size();
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  BATON_CHECK(U_SUCCESS(status)) << u_errorName(status);
  const std::string sorted = SortLongRuns(*nfc, text);
  storage.clear();
  icu::StringByteSink<std::string> sink(&storage, static_cast<int32_t>(sorted.size()));
  nfc->normalizeUTF8(0, icu::StringPiece(sorted.data(), static_cast<int32_t>(sorted.size())), sink,
                     nullptr, status);
  BATON_CHECK(U_SUCCESS(status)) << u_errorName(status);
  return storage;
}

}  // namespace baton
