// Reader of safetensors files: https://huggingface.co/docs/safetensors
//
//   | u64 header length n, little-endian | n bytes of JSON | tensor data |
//   JSON: {"name": {"dtype": "BF16", "shape": [..], "data_offsets": [begin, end]}, ..}
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace baton {

// A tensor as it lies in a file. Its data need not be aligned.
struct TensorView {
  std::string name;
  std::string dtype;  // "BF16", "F16", "F32", …: as the format names it
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  // into the mapping
};

// Checks everything before any tensor is used: header length, JSON, names, dtypes, shape overflow,
// byte counts, and that the tensors cover the data exactly, without holes or overlap. Errors start
// with `where`. The views point into `file`.
absl::StatusOr<std::vector<TensorView>> ParseSafetensors(std::span<const std::byte> file,
                                                         std::string_view where);

// A whole file, mapped read-only for as long as this lives.
class MappedFile {
 public:
  // NOT_FOUND, or what the system says, naming the path.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  // What changes when somebody writes to the file or puts another in its place; times in ns.
  struct Facts {
    uint64_t inode = 0;
    int64_t modified_ns = 0;  // contents
    int64_t changed_ns = 0;   // contents, or anything about the file; nobody can set it
  };
  const Facts& facts() const { return facts_; }
  // Advice: starts to read the file from the disk, and asks for huge pages.
  void ExpectAllToBeRead() const;
  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }

 private:
  MappedFile(std::span<const std::byte> bytes, const Facts& facts) : bytes_(bytes), facts_(facts) {}
  const std::span<const std::byte> bytes_;
  const Facts facts_;
};

}  // namespace baton
