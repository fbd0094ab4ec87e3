#include "engine/model/packed_file.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/strings.h"

namespace baton {
namespace {

constexpr std::string_view kMagic = "BATONPW\n";
constexpr size_t kChecksummedFrom = kMagic.size() + sizeof(uint64_t);
constexpr size_t kVersionEnd = kChecksummedFrom + sizeof(uint32_t);
constexpr uint32_t kMaxHeaderBytes = 64 << 20;

uint64_t AlignUp(uint64_t bytes) {
  return (bytes + kPackedAlignment - 1) / kPackedAlignment * kPackedAlignment;
}

absl::Status Useless(std::string_view why) { return absl::FailedPreconditionError(View(why)); }

// Names the first line that differs.
absl::Status OtherFacts(std::string_view stored, std::string_view wanted) {
  const std::vector<std::string> have = absl::StrSplit(View(stored), '\n');
  const std::vector<std::string> want = absl::StrSplit(View(wanted), '\n');
  size_t line = 0;
  while (line < have.size() && line < want.size() && have[line] == want[line]) ++line;
  const auto show = [line](const std::vector<std::string>& lines) {
    return line < lines.size() ? lines[line] : std::string("nothing");
  };
  return Useless(absl::StrCat("made of \"", show(have), "\"; wanted \"", show(want), "\""));
}

}  // namespace

uint64_t PackedChecksum(std::span<const std::byte> data) {
  return HashBytes(data.data(), data.size());
}

PackedLayout LayOutPackedFile(const PackedFile& file) {
  PackedLayout layout;
  size_t header_bytes = kVersionEnd + 2 * sizeof(uint64_t) + 3 * sizeof(uint32_t);
  header_bytes += file.facts.size();
  for (const PackedSection& section : file.sections) {
    header_bytes += 3 * sizeof(uint64_t) + sizeof(uint32_t) + section.name.size();
  }
  BATON_CHECK(header_bytes <= kMaxHeaderBytes) << header_bytes;
  uint64_t end = header_bytes;
  for (const PackedSection& section : file.sections) {
    layout.offsets.push_back(AlignUp(end));
    end = layout.offsets.back() + section.data.size();
  }
  layout.file_bytes = AlignUp(end);

  ByteWriter fields;
  fields.Put(kPackedFileVersion)
      .Put(static_cast<uint32_t>(header_bytes))
      .Put(layout.file_bytes)
      .Put(file.fingerprint)
      .Put(static_cast<uint32_t>(file.facts.size()))
      .Put(static_cast<uint32_t>(file.sections.size()))
      .PutBytes(file.facts);
  for (size_t i = 0; i < file.sections.size(); ++i) {
    const PackedSection& section = file.sections[i];
    fields.Put(layout.offsets[i])
        .Put(static_cast<uint64_t>(section.data.size()))
        .Put(section.checksum)
        .Put(static_cast<uint32_t>(section.name.size()))
        .PutBytes(section.name);
  }
  const std::string checksummed = fields.Take();
  ByteWriter header;
  header.PutBytes(kMagic).Put(HashString(checksummed)).PutBytes(checksummed);
  layout.header = header.Take();
  BATON_CHECK(layout.header.size() == header_bytes) << layout.header.size();
  layout.header.resize(AlignUp(header_bytes), '\0');
  return layout;
}

absl::StatusOr<PackedFile> ParsePackedFile(std::span<const std::byte> bytes,
                                           std::string_view facts) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  ByteReader start(text);
  if (start.GetBytes(kMagic.size()) != kMagic) return Useless("not a file of packed weights");
  const auto checksum = start.Get<uint64_t>();
  // Another version may mean the rest differently.
  const auto version = start.Get<uint32_t>();
  if (start.ok() && version != kPackedFileVersion) {
    return Useless(absl::StrCat("version ", version, "; wanted ", kPackedFileVersion));
  }
  const auto header_bytes = start.Get<uint32_t>();
  if (!start.ok() || header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() ||
      header_bytes < kVersionEnd + sizeof(header_bytes)) {
    return Useless(absl::StrCat("its header of ", header_bytes, " bytes is cut off or damaged"));
  }
  const std::string_view header = text.substr(0, header_bytes);
  if (HashString(header.substr(kChecksummedFrom)) != checksum)
    return Useless("its header is damaged");

  ByteReader fields(header.substr(kVersionEnd + sizeof(header_bytes)));
  const auto file_bytes = fields.Get<uint64_t>();
  PackedFile file;
  file.fingerprint = fields.Get<uint64_t>();
  const auto facts_bytes = fields.Get<uint32_t>();
  const auto num_sections = fields.Get<uint32_t>();
  file.facts = fields.GetBytes(facts_bytes);
  if (fields.ok() && file.facts != facts) return OtherFacts(file.facts, facts);
  if (file_bytes != bytes.size()) {
    return Useless(absl::StrCat("it has ", bytes.size(), " bytes; wanted ", file_bytes));
  }
  for (uint32_t i = 0; i < num_sections && fields.ok(); ++i) {
    PackedSection section;
    const auto offset = fields.Get<uint64_t>();
    const auto length = fields.Get<uint64_t>();
    section.checksum = fields.Get<uint64_t>();
    section.name = fields.GetBytes(fields.Get<uint32_t>());
    if (offset % kPackedAlignment != 0 || offset > bytes.size() || length > bytes.size() - offset) {
      return Useless(absl::StrCat("section ", section.name, " is not within the file"));
    }
    section.data = bytes.subspan(offset, length);
    file.sections.push_back(std::move(section));
  }
  if (!fields.ok() || fields.remaining() != 0) return Useless("its header does not add up");
  return file;
}

}  // namespace baton
