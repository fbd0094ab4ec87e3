// An authority and certificates of it for 127.0.0.1 and localhost, made by the openssl command in a
// directory of their own.
#pragma once

#include <string>

#include "common/rpc/tls_files.h"

namespace baton {

class TestCertificates {
 public:
  TestCertificates();
  ~TestCertificates();
  TestCertificates(const TestCertificates&) = delete;
  TestCertificates& operator=(const TestCertificates&) = delete;

  std::string authority() const { return directory_ + "/ca.pem"; }
  // `who`: "server" or "client". `mutual`: with the authority.
  TlsFiles Of(const std::string& who, bool mutual = false) const;

 private:
  std::string directory_;
};

}  // namespace baton
