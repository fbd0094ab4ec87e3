#include "common/rpc/tls_stream.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

constexpr size_t kRecordBytes = 16u << 10;
constexpr unsigned char kHttp11[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

struct FreeSsl {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};
using ContextPointer = std::unique_ptr<SSL_CTX, FreeSsl>;

std::string LastError() {
  char text[256] = "";
  ERR_error_string_n(ERR_peek_last_error(), text, sizeof text);
  ERR_clear_error();
  return text;
}

int ChooseHttp11(SSL*, const unsigned char** out, unsigned char* out_length,
                 const unsigned char* offered, unsigned int offered_length, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_length, kHttp11, sizeof kHttp11, offered,
                            offered_length) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

class Context final : public TlsContext {
 public:
  explicit Context(ContextPointer context) : context_(std::move(context)) {}
  SSL_CTX* get() const { return context_.get(); }

 private:
  const ContextPointer context_;
};

ContextPointer NewContext(const SSL_METHOD* method) {
  ContextPointer context(SSL_CTX_new(method));
  BATON_CHECK(context != nullptr) << LastError();
  BATON_CHECK(SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) == 1) << LastError();
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  return context;
}

class Stream final : public TlsStream {
 public:
  explicit Stream(const TlsContext& context)
      : ssl_(SSL_new(static_cast<const Context&>(context).get())),
        from_wire_(BIO_new(BIO_s_mem())),
        to_wire_(BIO_new(BIO_s_mem())) {
    BATON_CHECK(ssl_ != nullptr && from_wire_ != nullptr && to_wire_ != nullptr) << LastError();
    SSL_set_bio(ssl_.get(), from_wire_, to_wire_);  // it owns both now
  }

  void BecomeServer() { SSL_set_accept_state(ssl_.get()); }
  void BecomeClient(const std::string& host) {
    SSL_set_connect_state(ssl_.get());
    X509_VERIFY_PARAM* const rules = SSL_get0_param(ssl_.get());
    if (X509_VERIFY_PARAM_set1_ip_asc(rules, host.c_str()) != 1) {
      ERR_clear_error();  // a name, then
      BATON_CHECK(X509_VERIFY_PARAM_set1_host(rules, host.c_str(), host.size()) == 1);
      BATON_CHECK(SSL_set_tlsext_host_name(ssl_.get(), host.c_str()) == 1) << LastError();
    }
    BATON_CHECK(SSL_set_alpn_protos(ssl_.get(), kHttp11, sizeof kHttp11) == 0) << LastError();
    SSL_do_handshake(ssl_.get());  // its first words
    ERR_clear_error();
  }

  absl::Status Receive(std::string_view wire, std::string& plain) override {
    const int length = static_cast<int>(wire.size());
    BATON_CHECK(BIO_write(from_wire_, wire.data(), length) == length) << LastError();
    std::array<char, kRecordBytes> record;
    while (true) {
      ERR_clear_error();
      const int got = SSL_read(ssl_.get(), record.data(), static_cast<int>(record.size()));
      if (got > 0) {
        plain.append(record.data(), static_cast<size_t>(got));
        continue;
      }
      const int error = SSL_get_error(ssl_.get(), got);
      if (error == SSL_ERROR_ZERO_RETURN) peer_ended_ = true;
      if (error != SSL_ERROR_ZERO_RETURN && error != SSL_ERROR_WANT_READ) return Failure();
      break;
    }
    // The handshake may be over now.
    if (!waiting_.empty() && SSL_is_init_finished(ssl_.get())) Send(std::exchange(waiting_, {}));
    return absl::OkStatus();
  }

  void Send(std::string_view plain) override {
    if (!SSL_is_init_finished(ssl_.get())) {
      waiting_ += plain;
      return;
    }
    // To memory: it takes all, unless the stream has failed before.
    ERR_clear_error();
    if (!plain.empty()) SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size()));
    ERR_clear_error();
  }

  void End() override {
    if (SSL_is_init_finished(ssl_.get())) SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }

  std::string TakeWire() override {
    std::string wire(BIO_ctrl_pending(to_wire_), '\0');
    if (!wire.empty()) {
      const int length = static_cast<int>(wire.size());
      BATON_CHECK(BIO_read(to_wire_, wire.data(), length) == length);
    }
    return wire;
  }

  size_t waiting_bytes() const override { return waiting_.size(); }
  bool peer_ended() const override { return peer_ended_; }

 private:
  absl::Status Failure() const {
    if (const long verified = SSL_get_verify_result(ssl_.get()); verified != X509_V_OK) {
      ERR_clear_error();
      return absl::UnauthenticatedError(absl::StrCat("the certificate is not trusted: ",
                                                     X509_verify_cert_error_string(verified)));
    }
    return absl::InvalidArgumentError(absl::StrCat("TLS: ", LastError()));
  }

  const std::unique_ptr<SSL, FreeSsl> ssl_;
  BIO* const from_wire_;
  BIO* const to_wire_;
  std::string waiting_;  // for the end of the handshake
  bool peer_ended_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::ForServer(const TlsFiles& files) {
  RETURN_IF_ERROR(CheckTlsFiles(files));
  ContextPointer context = NewContext(TLS_server_method());
  if (SSL_CTX_use_certificate_chain_file(context.get(), files.certificate.c_str()) != 1 ||
      SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(files.certificate, ": ", LastError()));
  }
  SSL_CTX_set_alpn_select_cb(context.get(), &ChooseHttp11, nullptr);
  return std::make_unique<Context>(std::move(context));
}

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::ForClient(const std::string& authority) {
  ContextPointer context = NewContext(TLS_client_method());
  const int loaded = authority.empty()
                         ? SSL_CTX_set_default_verify_paths(context.get())
                         : SSL_CTX_load_verify_locations(context.get(), authority.c_str(), nullptr);
  if (loaded != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("no certificates of authorities in ", authority, ": ", LastError()));
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  return std::make_unique<Context>(std::move(context));
}

std::unique_ptr<TlsStream> TlsStream::Accept(const TlsContext& context) {
  auto stream = std::make_unique<Stream>(context);
  stream->BecomeServer();
  return stream;
}

std::unique_ptr<TlsStream> TlsStream::Connect(const TlsContext& context, const std::string& host) {
  auto stream = std::make_unique<Stream>(context);
  stream->BecomeClient(host);
  return stream;
}

}  // namespace baton
