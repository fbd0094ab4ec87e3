#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/model/safetensors.h"

namespace baton {
namespace {

absl::Status SystemError(const std::string& path, const char* what, int error) {
  const std::string message = absl::StrCat(path, ": ", what, ": ", std::strerror(error));
  return error == ENOENT ? absl::NotFoundError(message) : absl::FailedPreconditionError(message);
}

int64_t Nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return SystemError(path, "cannot open", errno);
  struct stat info {};
  void* address = nullptr;
  absl::Status status;
  if (fstat(file, &info) != 0) {
    status = SystemError(path, "cannot stat", errno);
  } else if (!S_ISREG(info.st_mode)) {
    status = absl::FailedPreconditionError(absl::StrCat(path, ": not a regular file"));
  } else if (info.st_size > 0) {
    address = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, file, 0);
    if (address == MAP_FAILED) status = SystemError(path, "cannot map", errno);
  }
  close(file);
  if (!status.ok()) return status;
  const auto bytes = address == nullptr ? size_t{0} : static_cast<size_t>(info.st_size);
  return std::unique_ptr<MappedFile>(new MappedFile({static_cast<const std::byte*>(address), bytes},
                                                    {.inode = info.st_ino,
                                                     .modified_ns = Nanoseconds(info.st_mtim),
                                                     .changed_ns = Nanoseconds(info.st_ctim)}));
}

void MappedFile::ExpectAllToBeRead() const {
  if (bytes_.empty()) return;
  auto* data = const_cast<std::byte*>(bytes_.data());
  madvise(data, bytes_.size(), MADV_HUGEPAGE);
  madvise(data, bytes_.size(), MADV_WILLNEED);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace baton
