// Packed weights kept in a file between starts, so that a model need not be packed, or quantized,
// again. The file is mapped and used in place: workers of one host share its pages.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/compute_pool.h"
#include "engine/model/packed_file.h"
#include "engine/model/safetensors.h"

namespace baton {

// A mapped file whose checksums all hold. Immutable. Whoever truncates or overwrites the file in
// place breaks it; replacing it by another file does not.
class PackedCache {
 public:
  // Reads all of the file, on the pool. NOT_FOUND: there is none. FAILED_PRECONDITION: it is of no
  // use for what `facts` say, and why.
  static absl::StatusOr<std::unique_ptr<PackedCache>> Open(const std::string& path,
                                                           std::string_view facts,
                                                           ComputePool* pool);

  uint64_t fingerprint() const { return file_.fingerprint; }
  // The section's data; it lives as long as this. NOT_FOUND, or FAILED_PRECONDITION for another
  // size.
  absl::StatusOr<std::span<const std::byte>> Find(const std::string& name, size_t bytes) const;

 private:
  PackedCache(std::unique_ptr<MappedFile> mapping, PackedFile file);

  const std::unique_ptr<MappedFile> mapping_;
  const PackedFile file_;
  std::unordered_map<std::string_view, const PackedSection*> by_name_;
};

// Puts `file` in the place of what is at `path`, whole or not at all, and on the disk once it has
// returned. Fills in the checksums, on the pool. Makes the directory when there is none. ABORTED:
// another process is writing it at this time.
absl::Status WritePackedCache(const std::string& path, PackedFile file, ComputePool* pool);

}  // namespace baton
