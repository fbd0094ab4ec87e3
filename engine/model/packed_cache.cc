#include "engine/model/packed_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {
namespace {

absl::Status SystemError(const std::string& path, std::string_view what) {
  return absl::ErrnoToStatus(errno, absl::StrCat(path, ": ", View(what)));
}

// Owns a descriptor.
class OpenFile {
 public:
  explicit OpenFile(int descriptor) : descriptor_(descriptor) {}
  ~OpenFile() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int get() const { return descriptor_; }

 private:
  const int descriptor_;
};

// Brings a section's pages in and compares its checksum.
bool Verify(const PackedSection& section) {
  if (!section.data.empty()) {
    // Advice only, much cheaper than a fault for every few pages. Sections start with a page.
    madvise(const_cast<std::byte*>(section.data.data()), section.data.size(), MADV_POPULATE_READ);
  }
  return PackedChecksum(section.data) == section.checksum;
}

absl::Status WriteAt(int descriptor, std::span<const std::byte> data, uint64_t offset,
                     const std::string& path) {
  while (!data.empty()) {
    const ssize_t written =
        pwrite(descriptor, data.data(), data.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return SystemError(path, "cannot write");
    data = data.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
  return absl::OkStatus();
}

// Locks the file and makes sure that it is still the one at `path`: who renames it has the lock.
absl::Status LockForWriting(int descriptor, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  const bool mine = flock(descriptor, LOCK_EX | LOCK_NB) == 0 && fstat(descriptor, &opened) == 0 &&
                    stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
                    opened.st_dev == named.st_dev;
  if (mine) return absl::OkStatus();
  return absl::AbortedError(absl::StrCat(path, ": another process is writing it"));
}

absl::Status WriteContents(int descriptor, const PackedFile& file, const std::string& path) {
  const PackedLayout layout = LayOutPackedFile(file);
  const auto file_bytes = static_cast<off_t>(layout.file_bytes);
  if (ftruncate(descriptor, 0) != 0) return SystemError(path, "cannot truncate");
  // A disk that is too small is found out at once. Not every file system can tell.
  if (fallocate(descriptor, 0, 0, file_bytes) != 0 && errno != EOPNOTSUPP && errno != EINTR) {
    return SystemError(path, absl::StrCat("cannot take ", layout.file_bytes, " bytes"));
  }
  if (ftruncate(descriptor, file_bytes) != 0) return SystemError(path, "cannot extend");
  RETURN_IF_ERROR(WriteAt(descriptor, std::as_bytes(std::span(layout.header)), 0, path));
  for (size_t i = 0; i < file.sections.size(); ++i) {
    RETURN_IF_ERROR(WriteAt(descriptor, file.sections[i].data, layout.offsets[i], path));
  }
  if (fsync(descriptor) != 0) return SystemError(path, "cannot sync");
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  const OpenFile directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || fsync(directory.get()) != 0) return SystemError(path, "cannot sync");
  return absl::OkStatus();
}

}  // namespace

PackedCache::PackedCache(std::unique_ptr<MappedFile> mapping, PackedFile file)
    : mapping_(std::move(mapping)), file_(std::move(file)) {
  for (const PackedSection& section : file_.sections) by_name_[section.name] = &section;
}

absl::StatusOr<std::unique_ptr<PackedCache>> PackedCache::Open(const std::string& path,
                                                               std::string_view facts,
                                                               ComputePool* pool) {
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> mapping, MappedFile::Open(path));
  mapping->ExpectAllToBeRead();
  ASSIGN_OR_RETURN(PackedFile file, ParsePackedFile(mapping->bytes(), facts));
  std::vector<char> good(file.sections.size());
  pool->Run(static_cast<int32_t>(good.size()), [&](int32_t section, int32_t /*thread*/) {
    const auto i = static_cast<size_t>(section);
    good[i] = static_cast<char>(Verify(file.sections[i]));
  });
  const auto bad = std::find(good.begin(), good.end(), 0);
  if (bad != good.end()) {
    const PackedSection& section = file.sections[static_cast<size_t>(bad - good.begin())];
    return absl::FailedPreconditionError(absl::StrCat("section ", section.name, " is damaged"));
  }
  return std::unique_ptr<PackedCache>(new PackedCache(std::move(mapping), std::move(file)));
}

absl::StatusOr<std::span<const std::byte>> PackedCache::Find(const std::string& name,
                                                             size_t bytes) const {
  const auto it = by_name_.find(name);
  if (it == by_name_.end()) return absl::NotFoundError(absl::StrCat("no section ", name));
  const std::span<const std::byte> data = it->second->data;
  if (data.size() == bytes) return data;
  return absl::FailedPreconditionError(
      absl::StrCat("section ", name, " has ", data.size(), " bytes; wanted ", bytes));
}

absl::Status WritePackedCache(const std::string& path, PackedFile file, ComputePool* pool) {
  const std::string directory = std::filesystem::path(path).parent_path().string();
  std::error_code ignored;  // opening says why
  std::filesystem::create_directories(directory, ignored);
  const std::string unfinished = absl::StrCat(path, ".unfinished");
  // What a process left behind that ended while it was writing is taken over.
  const OpenFile output(
      open(unfinished.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644));
  if (output.get() < 0) return SystemError(unfinished, "cannot open");
  RETURN_IF_ERROR(LockForWriting(output.get(), unfinished));
  pool->Run(static_cast<int32_t>(file.sections.size()), [&](int32_t i, int32_t /*thread*/) {
    PackedSection& section = file.sections[static_cast<size_t>(i)];
    section.checksum = PackedChecksum(section.data);
  });
  absl::Status status = WriteContents(output.get(), file, unfinished);
  if (status.ok() && rename(unfinished.c_str(), path.c_str()) != 0) {
    status = SystemError(path, "cannot put the new file there");
  }
  if (!status.ok()) {
    unlink(unfinished.c_str());
    return status;
  }
  return SyncDirectory(directory);
}

}  // namespace baton
