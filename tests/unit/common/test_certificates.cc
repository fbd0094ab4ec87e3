#include "tests/unit/common/test_certificates.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

void Openssl(const std::string& directory, const std::string& arguments) {
  const std::string command =
      absl::StrCat("cd ", directory, " && openssl ", arguments, " >openssl.log 2>&1");
  BATON_CHECK(system(command.c_str()) == 0) << command;
}

}  // namespace

TestCertificates::TestCertificates() : directory_(::testing::TempDir() + "/certificates-XXXXXX") {
  BATON_CHECK(mkdtemp(directory_.data()) != nullptr) << directory_;
  const char* const new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
  Openssl(directory_, absl::StrCat("req -x509 ", new_key,
                                   " -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority"));
  std::ofstream(directory_ + "/names") << "subjectAltName=IP:127.0.0.1,DNS:localhost\n";
  for (const std::string who : {"server", "client"}) {
    Openssl(directory_, absl::StrCat("req ", new_key, " -keyout ", who, ".key -out ", who,
                                     ".csr -subj /CN=", who));
    Openssl(directory_, absl::StrCat("x509 -req -in ", who, ".csr -CA ca.pem -CAkey ca.key ",
                                     "-CAcreateserial -days 2 -extfile names -out ", who, ".pem"));
  }
}

TestCertificates::~TestCertificates() { std::filesystem::remove_all(directory_); }

TlsFiles TestCertificates::Of(const std::string& who, bool mutual) const {
  return {.certificate = absl::StrCat(directory_, "/", who, ".pem"),
          .key = absl::StrCat(directory_, "/", who, ".key"),
          .authority = mutual ? authority() : ""};
}

}  // namespace baton
