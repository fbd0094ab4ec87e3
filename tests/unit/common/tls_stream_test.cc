// TLS as a filter, with certificates made by openssl for the test.
#include "common/rpc/tls_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/unit/common/test_certificates.h"

namespace baton {
namespace {

using ::testing::HasSubstr;

// A client and a server whose bytes are carried by hand.
struct Pair {
  Pair(const TlsContext& client_context, const TlsContext& server_context,
       const std::string& host = "127.0.0.1")
      : client(TlsStream::Connect(client_context, host)),
        server(TlsStream::Accept(server_context)) {}

  // Until nobody has anything to say, in pieces of `piece` bytes.
  void Carry(size_t piece = 1 << 20) {
    for (bool moved = true; moved;) {
      moved = Move(*client, *server, server_got, server_status, piece);
      moved |= Move(*server, *client, client_got, client_status, piece);
    }
  }
  static bool Move(TlsStream& from, TlsStream& to, std::string& got, absl::Status& status,
                   size_t piece) {
    const std::string wire = from.TakeWire();
    for (size_t at = 0; at < wire.size() && status.ok(); at += piece) {
      status = to.Receive(std::string_view(wire).substr(at, piece), got);
    }
    return !wire.empty();
  }

  std::unique_ptr<TlsStream> client;
  std::unique_ptr<TlsStream> server;
  std::string client_got;
  std::string server_got;
  absl::Status client_status;
  absl::Status server_status;
};

class TlsStreamTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { certificates_ = new TestCertificates(); }
  static void TearDownTestSuite() { delete certificates_; }
  void SetUp() override {
    server_ = TlsContext::ForServer(certificates_->Of("server")).value();
    client_ = TlsContext::ForClient(certificates_->authority()).value();
  }
  static TestCertificates* certificates_;
  std::unique_ptr<TlsContext> server_;
  std::unique_ptr<TlsContext> client_;
};
TestCertificates* TlsStreamTest::certificates_ = nullptr;

TEST_F(TlsStreamTest, CarriesBytesBothWaysHoweverTheyAreCut) {
  const std::string large(100'000, 'x');
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{5000}, size_t{1} << 20}) {
    Pair pair(*client_, *server_);
    pair.client->Send("hello");  // before the handshake
    pair.server->Send(large);
    pair.Carry(piece);
    EXPECT_TRUE(pair.client_status.ok()) << pair.client_status;
    EXPECT_TRUE(pair.server_status.ok()) << pair.server_status;
    EXPECT_EQ(pair.server_got, "hello");
    EXPECT_EQ(pair.client_got, large);
    pair.client->Send(" again");
    pair.Carry(piece);
    EXPECT_EQ(pair.server_got, "hello again");
    EXPECT_FALSE(pair.client->peer_ended());
    pair.server->End();
    pair.Carry(piece);
    EXPECT_TRUE(pair.client->peer_ended());
  }
}

TEST_F(TlsStreamTest, NothingOfTheTextIsOnTheWire) {
  Pair pair(*client_, *server_);
  pair.Carry();
  pair.client->Send("a secret that must not show");
  EXPECT_THAT(pair.client->TakeWire(), ::testing::Not(HasSubstr("secret")));
}

TEST_F(TlsStreamTest, AnUnknownAuthorityOrAnotherNameIsNotTrusted) {
  const TestCertificates others;
  const auto stranger = TlsContext::ForClient(others.authority()).value();
  Pair wrong_authority(*stranger, *server_);
  wrong_authority.client->Send("secret");
  wrong_authority.Carry();
  EXPECT_TRUE(absl::IsUnauthenticated(wrong_authority.client_status))
      << wrong_authority.client_status;
  EXPECT_EQ(wrong_authority.server_got, "");
  Pair wrong_name(*client_, *server_, "10.9.8.7");
  wrong_name.Carry();
  EXPECT_TRUE(absl::IsUnauthenticated(wrong_name.client_status)) << wrong_name.client_status;
  Pair by_name(*client_, *server_, "localhost");
  by_name.Carry();
  EXPECT_TRUE(by_name.client_status.ok()) << by_name.client_status;
}

TEST_F(TlsStreamTest, BytesThatAreNoTlsEndTheStream) {
  Pair pair(*client_, *server_);
  std::string plain;
  EXPECT_TRUE(absl::IsInvalidArgument(pair.server->Receive("GET / HTTP/1.1\r\n\r\n", plain)));
  EXPECT_EQ(plain, "");
  Pair broken(*client_, *server_);
  broken.Carry();
  broken.client->Send("hello");
  std::string wire = broken.client->TakeWire();
  wire.back() = static_cast<char>(wire.back() ^ 1);
  EXPECT_TRUE(absl::IsInvalidArgument(broken.server->Receive(wire, plain)));
  EXPECT_EQ(plain, "");
}

TEST_F(TlsStreamTest, FilesThatDoNotFitAreNamed) {
  TlsFiles mixed = certificates_->Of("server");
  mixed.key = certificates_->Of("client").key;
  EXPECT_THAT(std::string(TlsContext::ForServer(mixed).status().message()),
              HasSubstr(absl::StrCat(mixed.key, ": is not the key")));
  EXPECT_TRUE(absl::IsInvalidArgument(TlsContext::ForServer({.certificate = "a"}).status()));
  EXPECT_THAT(std::string(CheckTlsFiles({.certificate = "/no/such", .key = "/no"}).message()),
              HasSubstr("cannot read /no/such"));
  EXPECT_TRUE(absl::IsInvalidArgument(TlsContext::ForClient("/no/such").status()));
}

}  // namespace
}  // namespace baton
