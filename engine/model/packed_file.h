// The file that holds a model's packed weights: its bytes, without any I/O. See packed_cache.h.
//
//   | "BATONPW\n" | u64 header checksum | u32 version | u32 header bytes | u64 file bytes |
//   | u64 fingerprint | u32 facts bytes | u32 sections | facts | sections | zeros | data … |
//   section: | u64 offset | u64 bytes | u64 checksum | u32 name bytes | name |
//
// Little-endian. The header checksum is over what follows it in the header; each section's data has
// its own and starts at a multiple of kPackedAlignment. Checksums are XXH3. Zeros fill the gaps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace baton {

// To be raised whenever the same weights come out in other bytes: panels, levels, scales of
// PackedMatrix, the order of a matrix's rows. packed_file_test and packed_cache_test fail when they
// do.
inline constexpr uint32_t kPackedFileVersion = 2;
inline constexpr size_t kPackedAlignment = 4096;

// A matrix or a vector.
struct PackedSection {
  std::string name;
  std::span<const std::byte> data;
  uint64_t checksum = 0;  // of the data
};

struct PackedFile {
  std::string facts;         // lines: all that the bytes of the sections follow from
  uint64_t fingerprint = 0;  // WeightSource::fingerprint of the tensors that were packed
  std::vector<PackedSection> sections;
};

uint64_t PackedChecksum(std::span<const std::byte> data);

// What precedes the data, with the zeros up to it, and where each section's data starts.
struct PackedLayout {
  std::string header;
  std::vector<uint64_t> offsets;  // [sections], rising
  uint64_t file_bytes = 0;
};
PackedLayout LayOutPackedFile(const PackedFile& file);

// Checks everything but the checksums of the data. FAILED_PRECONDITION says why the file is of no
// use, facts other than `facts` included. The sections point into `bytes`.
absl::StatusOr<PackedFile> ParsePackedFile(std::span<const std::byte> bytes,
                                           std::string_view facts);

}  // namespace baton
