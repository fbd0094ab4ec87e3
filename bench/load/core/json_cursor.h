// Reads JSON in one pass without building anything: one event of a stream costs well under a
// microsecond, and a broken one is still seen to be broken (RFC 8259, by which escaped surrogates
// need no pair, but for UTF-8 validity).
//
//   JsonCursor cursor(text);
//   if (cursor.EnterObject()) {
//     std::string_view key;
//     while (cursor.NextKey(&key)) {
//       if (key == "n") cursor.ReadNumber(&n); else cursor.Skip();
//     }
//   }
//   const bool valid = cursor.AtEnd();
//
// Each value must be read, entered or skipped, exactly once. After an error every call returns
// false, so loops end and AtEnd tells.
#pragma once

#include <cstddef>
#include <string_view>

namespace baton::load {

class JsonCursor {
 public:
  // `text` must outlive the cursor and the views that it hands out.
  explicit JsonCursor(std::string_view text) : text_(text) {}

  // True, and inside, when the next value is an object; else nothing is consumed.
  bool EnterObject();
  // False after the last member, with the object's end consumed. Keys are raw: escapes stay.
  bool NextKey(std::string_view* key);
  bool EnterArray();
  // True when a value follows; false with the array's end consumed.
  bool NextItem();

  // False when the next value is of another type; it is skipped then.
  bool ReadNumber(double* value);
  bool ReadString(std::string_view* raw);  // without quotes, escapes as they stand
  void Skip();

  // No error, and only white space is left.
  bool AtEnd();

 private:
  char Peek();  // the next character after white space, 0 at the end
  bool Fail();
  bool Enter(char open);
  bool Separated(char close, bool* more);
  bool TakeString(std::string_view* raw);
  bool TakeNumber(std::string_view* digits);
  bool TakeDigits();
  bool TakeWord(std::string_view word);

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  bool first_ = false;  // nothing has been read of the innermost container
  bool failed_ = false;
};

}  // namespace baton::load
