// safetensors files. Accepted tensors cover the data behind the header exactly, without holes or
// overlap, each as long as its shape says.
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <string>

#include "common/check.h"
#include "engine/model/safetensors.h"
#include "tests/fuzz/pieces.h"

namespace baton {
namespace {

int64_t BitsOf(const std::string& dtype) {
  for (const auto& [name, bits] : {std::pair{"F64", 64}, {"F32", 32}, {"F16", 16}, {"BF16", 16}}) {
    if (dtype == name) return bits;
  }
  return 0;  // not checked here
}

void CheckTensor(const TensorView& tensor) {
  const int64_t bits = BitsOf(tensor.dtype);
  __int128 expected = bits;
  for (const int64_t size : tensor.shape) {
    BATON_CHECK(size >= 0) << size;
    expected *= size;
  }
  BATON_CHECK(bits == 0 || expected == static_cast<__int128>(tensor.data.size()) * 8)
      << tensor.name << ' ' << tensor.dtype << ' ' << tensor.data.size();
}

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto views = ParseSafetensors(bytes, "m.safetensors");
  if (!views.ok()) {
    BATON_CHECK(views.status().message().find("m.safetensors") != absl::string_view::npos)
        << views.status();
    return 0;
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, data, sizeof(header_bytes));
  const std::byte* next = bytes.data() + sizeof(header_bytes) + header_bytes;
  std::set<std::string> names;
  for (const TensorView& tensor : *views) {
    BATON_CHECK(names.insert(tensor.name).second) << tensor.name;
    BATON_CHECK(tensor.data.empty() || tensor.data.data() == next) << tensor.name;
    next += tensor.data.size();
    CheckTensor(tensor);
  }
  BATON_CHECK(next == bytes.data() + bytes.size()) << "bytes that no tensor names";
  return 0;
}
