// TLS as a filter: bytes of the wire in, plain bytes out, and back. Whoever owns the socket moves
// the bytes; nothing here blocks or waits.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/rpc/tls_files.h"

namespace baton {

// Certificates and rules of many streams: TLS 1.2 or newer, HTTP/1.1. Thread-safe.
class TlsContext {
 public:
  virtual ~TlsContext() = default;

  // INVALID_ARGUMENT names the file at fault.
  static absl::StatusOr<std::unique_ptr<TlsContext>> ForServer(const TlsFiles& files);
  // The server must show a certificate of an authority in the PEM file `authority`; empty: of one
  // that the system trusts.
  static absl::StatusOr<std::unique_ptr<TlsContext>> ForClient(const std::string& authority);
};

// One side of one connection. Not thread-safe.
class TlsStream {
 public:
  // `context` must outlive it. A client names the host that it calls, which the certificate must
  // name too.
  static std::unique_ptr<TlsStream> Accept(const TlsContext& context);
  static std::unique_ptr<TlsStream> Connect(const TlsContext& context, const std::string& host);
  virtual ~TlsStream() = default;

  // Appends to `plain` what the wire bytes hold. An error ends the stream: UNAUTHENTICATED for a
  // certificate that is not trusted, INVALID_ARGUMENT for bytes that are no TLS.
  virtual absl::Status Receive(std::string_view wire, std::string& plain) = 0;
  // Plain bytes to send; kept until the handshake is over.
  virtual void Send(std::string_view plain) = 0;
  // Says that nothing more will be sent.
  virtual void End() = 0;
  // What must go out on the wire now: after Connect, Receive (also a failed one), Send and End.
  virtual std::string TakeWire() = 0;

  // Given to Send and not in TakeWire's answers yet: a handshake, or a change of keys, is under
  // way.
  virtual size_t waiting_bytes() const = 0;
  virtual bool peer_ended() const = 0;  // the peer has said that it sends nothing more
};

}  // namespace baton
