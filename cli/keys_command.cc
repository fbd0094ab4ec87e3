#include "cli/keys_command.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/crypto.h"
#include "router/front/key_ring.h"

namespace baton {
namespace {

constexpr size_t kKeyBytes = 32;
constexpr mode_t kOwnerOnly = 0600;

absl::Status FileError(const std::string& path) {
  return absl::UnavailableError(absl::StrCat(path, ": ", std::strerror(errno)));
}

// The file's text, or the head of a new one.
absl::StatusOr<std::string> ReadKeyFile(const std::string& path) {
  if (access(path.c_str(), F_OK) != 0 && errno == ENOENT) {
    return "# API keys of a Baton router (--api-keys). The keys themselves are not here, only "
           "their\n"
           "# SHA-256. A running router sees a change within a second. To take a key away, delete\n"
           "# its entry.\n"
           "keys:\n";
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return FileError(path);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!text.empty() && text.back() != '\n') text += '\n';
  return text;
}

// A reader sees the old file or the new one, never half of it. Keeps the old one's owner and
// permissions. Fails when somebody else is at it.
absl::Status ReplaceFile(const std::string& path, const std::string& text) {
  struct stat old = {};
  const bool exists = stat(path.c_str(), &old) == 0;
  const mode_t mode = exists ? old.st_mode & 0777 : kOwnerOnly;
  const std::string next = path + ".new";
  const int fd = open(next.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerOnly);
  if (fd < 0) return FileError(next);
  const bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       (!exists || fchown(fd, old.st_uid, old.st_gid) == 0) &&
                       fchmod(fd, mode) == 0 && fsync(fd) == 0;
  if (close(fd) != 0 || !written || std::rename(next.c_str(), path.c_str()) != 0) {
    const absl::Status status = FileError(next);
    unlink(next.c_str());
    return status;
  }
  return absl::OkStatus();
}

class KeysNewCommand final : public Command {
 public:
  std::string name() const override { return "new"; }
  std::string summary() const override {
    return "Add an API key to a key file and print it, this once";
  }
  std::string footer() const override {
    return "Example:\n"
           "  baton keys new --file keys.yaml --name alice --requests-per-minute 600\n"
           "  baton up --model models/demo --api-keys keys.yaml\n";
  }
  void Describe(ConfigSchema& schema) override {
    schema.AddString("file", &file_, "The key file; made when it is not there");
    schema.AddString("name", &name_, "What logs and metrics call the key");
    schema.AddString("tenant", &tenant_,
                     "Whose fair share and prefix cache it uses (default: its name)");
    schema.AddInt("requests_per_minute", &requests_per_minute_, 0, 1 << 24,
                  "Calls a minute at most (0: no limit)");
    schema.AddBool("admin", &admin_, "Also metrics, cluster, drain and abort");
  }
  absl::Status Validate() const override {
    if (file_.empty()) return absl::InvalidArgumentError("no key file: give --file keys.yaml");
    if (name_.empty()) return absl::InvalidArgumentError("no name: give --name alice");
    return absl::OkStatus();
  }

  absl::StatusOr<int> Run() override {
    const std::string key = absl::StrCat("bt-", ToHex(RandomBytes(kKeyBytes)));
    if (char* const real = realpath(file_.c_str(), nullptr); real != nullptr) {
      file_ = real;  // the file that a link names, not the link, is replaced
      free(real);
    }
    ASSIGN_OR_RETURN(std::string text, ReadKeyFile(file_));
    absl::StrAppend(&text, "  - name: ", name_, "\n    sha256: ", ToHex(Bytes(Sha256(key))), "\n");
    if (!tenant_.empty()) absl::StrAppend(&text, "    tenant: ", tenant_, "\n");
    if (requests_per_minute_ > 0) {
      absl::StrAppend(&text, "    requests_per_minute: ", requests_per_minute_, "\n");
    }
    if (admin_) absl::StrAppend(&text, "    admin: true\n");
    // Names that YAML would read as something else, and names that are there already.
    ASSIGN_OR_RETURN(const auto keys, ParseApiKeys(text, file_));
    if (keys.back().name != name_ || (!tenant_.empty() && keys.back().tenant != tenant_)) {
      return absl::InvalidArgumentError("name and tenant must be plain words");
    }
    RETURN_IF_ERROR(ReplaceFile(file_, text));
    std::printf("%s\n", key.c_str());
    return 0;
  }

 private:
  std::string file_;
  std::string name_;
  std::string tenant_;
  int32_t requests_per_minute_ = 0;
  bool admin_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeKeysNewCommand() { return std::make_unique<KeysNewCommand>(); }

}  // namespace baton
