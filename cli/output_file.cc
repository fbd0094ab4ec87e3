#include "cli/output_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace baton {

absl::Status CheckWritable(const std::string& key, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  const auto refused = [&](const std::string& why) {
    return absl::InvalidArgumentError(absl::StrCat(key, ": cannot write \"", path, "\": ", why));
  };
  struct stat info {};
  if (stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return refused("it is a directory");
    return access(path.c_str(), W_OK) == 0 ? absl::OkStatus() : refused(std::strerror(errno));
  }
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  return access(folder.c_str(), W_OK | X_OK) == 0 ? absl::OkStatus()
                                                  : refused(std::strerror(errno));
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (file) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot write ", path));
}

}  // namespace baton
