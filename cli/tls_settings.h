// TLS settings that several commands have.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/config.h"
#include "common/rpc/tls_files.h"

namespace baton {

// `control_tls.*`: router and workers.
void AddControlTlsSettings(ConfigSchema& schema, TlsFiles* files);
// All three or none; the files can be used.
absl::Status ValidateControlTls(const TlsFiles& files);

// `tls.*`: the router's HTTP and gRPC fronts.
void AddFrontTlsSettings(ConfigSchema& schema, TlsFiles* files);
absl::Status ValidateFrontTls(const TlsFiles& files);

}  // namespace baton
