// TLS of gRPC connections from PEM files: of the public front, and mutual between router and
// workers.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace grpc {
class ChannelCredentials;
class ServerCredentials;
}  // namespace grpc

namespace baton {

// Paths of PEM files; all empty: no TLS.
struct TlsFiles {
  std::string certificate;  // ours, with what leads to its authority
  std::string key;          // of that certificate
  std::string authority;    // whose certificates the peer must have; empty: the peer shows none

  bool any() const { return !certificate.empty() || !key.empty() || !authority.empty(); }
};

// Whether each file is there and the key fits the certificate. INVALID_ARGUMENT names the file.
absl::Status CheckTlsFiles(const TlsFiles& files);

// Insecure ones when there are no files. With an authority the client must show a certificate of
// it.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsFrom(
    const TlsFiles& files);
// The server must show a certificate of the authority, in the name that is called.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> ChannelCredentialsFrom(
    const TlsFiles& files);

}  // namespace baton
