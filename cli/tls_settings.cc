#include "cli/tls_settings.h"

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

absl::Status Check(const std::string& section, const TlsFiles& files) {
  const absl::Status status = CheckTlsFiles(files);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(section, ": ", status.message()));
}

}  // namespace

void AddControlTlsSettings(ConfigSchema& schema, TlsFiles* files) {
  schema.AddString("control_tls.cert", &files->certificate,
                   "PEM file: this process's certificate towards router or workers");
  schema.AddString("control_tls.key", &files->key, "PEM file: its key");
  schema.AddString("control_tls.ca", &files->authority,
                   "PEM file: the authority whose certificates router and workers must show");
}

absl::Status ValidateControlTls(const TlsFiles& files) {
  if (files.any() && files.authority.empty()) {
    return absl::InvalidArgumentError(
        "control_tls: router and workers check each other: give "
        "--control-tls-ca too");
  }
  return Check("control_tls", files);
}

void AddFrontTlsSettings(ConfigSchema& schema, TlsFiles* files) {
  schema.AddString("tls.cert", &files->certificate,
                   "PEM file: certificate (with its chain) for HTTPS and gRPC");
  schema.AddString("tls.key", &files->key, "PEM file: its key");
}

absl::Status ValidateFrontTls(const TlsFiles& files) { return Check("tls", files); }

}  // namespace baton
