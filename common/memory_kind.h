// Which memory bytes are in.
#pragma once

#include <cstdint>
#include <string_view>

namespace baton {

enum class MemoryKind : uint8_t {
  kHost,  // also pinned
  kCuda,  // a CUDA device's
};

constexpr std::string_view MemoryKindName(MemoryKind kind) {
  return kind == MemoryKind::kHost ? "host" : "cuda";
}

}  // namespace baton
