// Fixed little-endian fields in and out of byte strings, with every read bounds-checked.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace baton {

// Appends fields to a string.
class ByteWriter {
 public:
  template <typename T>
  ByteWriter& Put(T value) {
    static_assert(std::is_integral_v<T>);
    auto bits = static_cast<std::make_unsigned_t<T>>(value);
    for (size_t i = 0; i < sizeof(T); ++i) {
      out_.push_back(static_cast<char>((static_cast<uint64_t>(bits) >> (8 * i)) & 0xff));
    }
    return *this;
  }
  ByteWriter& PutBytes(std::string_view bytes) {
    out_.append(bytes);
    return *this;
  }
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

// Takes fields from the front of a view. After the first read past the end, ok() is false and every
// read gives zero: check once, at the end.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  T Get() {
    static_assert(std::is_integral_v<T>);
    const std::string_view field = GetBytes(sizeof(T));
    uint64_t bits = 0;
    for (size_t i = 0; i < field.size(); ++i) {
      bits |= static_cast<uint64_t>(static_cast<unsigned char>(field[i])) << (8 * i);
    }
    return static_cast<T>(bits);
  }
  std::string_view GetBytes(size_t length_bytes) {
    if (length_bytes > rest_.size()) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const std::string_view field = rest_.substr(0, length_bytes);
    rest_.remove_prefix(length_bytes);
    return field;
  }
  bool ok() const { return ok_; }
  size_t remaining() const { return rest_.size(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace baton
