// The few cryptographic primitives that Baton needs, from OpenSSL. Thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace baton {

using Sha256Digest = std::array<uint8_t, 32>;

Sha256Digest Sha256(std::string_view bytes);
Sha256Digest HmacSha256(std::string_view key, std::string_view bytes);

// Its time depends on the lengths only.
bool EqualInConstantTime(std::string_view a, std::string_view b);
inline std::string_view Bytes(const Sha256Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

// From the kernel's generator.
std::string RandomBytes(size_t count);

std::string ToHex(std::string_view bytes);  // lower case
// nullopt unless `hex` is the hexadecimal form of exactly 32 bytes, in either case.
std::optional<Sha256Digest> DigestFromHex(std::string_view hex);

}  // namespace baton
