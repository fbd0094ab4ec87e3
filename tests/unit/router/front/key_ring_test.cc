// API keys on a clock that stands still: whom they let in, how often, and what a key file may say.
#include "router/front/key_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace baton {
namespace {

using ::testing::HasSubstr;
using Result = AccessDecision::Result;

const absl::Time kStart = absl::UnixEpoch();

ApiKey KeyOf(const std::string& name, const std::string& secret) {
  return {.name = name, .tenant = name + "-team", .sha256 = Sha256(secret)};
}

TEST(KeyRing, LetsInWhoHasAKey) {
  KeyRing ring;
  ring.Replace({KeyOf("alice", "secret-a"), KeyOf("bob", "secret-b")}, kStart);
  const auto of = [&](const std::string& header) {
    return ring.Check(header, Access::kUse, kStart).decision.result;
  };
  EXPECT_EQ(ring.Check("Bearer secret-b", Access::kUse, kStart).decision.tenant, "bob-team");
  EXPECT_EQ(of("Bearer secret-a"), Result::kAllowed);
  EXPECT_EQ(of("bearer   secret-a "), Result::kAllowed);
  EXPECT_EQ(of("Bearer secret-"), Result::kWrongKey);
  EXPECT_EQ(of("Bearer secret-a2"), Result::kWrongKey);
  EXPECT_EQ(of("Bearer SECRET-A"), Result::kWrongKey);
  EXPECT_EQ(of(absl::StrCat("Bearer ", ToHex(Bytes(Sha256("secret-a"))))), Result::kWrongKey)
      << "what the file holds is no key";
  EXPECT_EQ(of(""), Result::kNoKey);
  EXPECT_EQ(of("Bearer "), Result::kNoKey);
  EXPECT_EQ(of("Bearer    "), Result::kNoKey);
  EXPECT_EQ(of("Basic secret-a"), Result::kNoKey);
  EXPECT_EQ(of("secret-a"), Result::kNoKey);
}

TEST(KeyRing, AdministratorsNeedAKeyThatSaysSo) {
  KeyRing ring;
  ApiKey admin = KeyOf("root", "secret-r");
  admin.admin = true;
  ring.Replace({KeyOf("alice", "secret-a"), admin}, kStart);
  EXPECT_EQ(ring.Check("Bearer secret-a", Access::kAdmin, kStart).decision.result,
            Result::kNotAdmin);
  EXPECT_EQ(ring.Check("Bearer secret-r", Access::kAdmin, kStart).decision.result,
            Result::kAllowed);
  EXPECT_EQ(ring.Check("Bearer secret-r", Access::kUse, kStart).decision.result, Result::kAllowed);
}

TEST(KeyRing, AQuotaIsAMinutesRequestsThatComeBackEvenly) {
  KeyRing ring;
  ApiKey key = KeyOf("alice", "secret-a");
  key.requests_per_minute = 6;  // one in ten seconds
  ring.Replace({key, KeyOf("bob", "secret-b")}, kStart);
  const auto check = [&](int second) {
    return ring.Check("Bearer secret-a", Access::kUse, kStart + absl::Seconds(second)).decision;
  };
  for (int i = 0; i < 6; ++i) EXPECT_EQ(check(0).result, Result::kAllowed) << i;
  const AccessDecision over = check(4);
  EXPECT_EQ(over.result, Result::kOverQuota);
  EXPECT_NEAR(absl::ToDoubleSeconds(over.retry_after), 6, 1e-6);
  EXPECT_EQ(check(9).result, Result::kOverQuota) << "what was refused took nothing";
  EXPECT_EQ(check(11).result, Result::kAllowed);
  EXPECT_EQ(check(11).result, Result::kOverQuota);
  EXPECT_EQ(ring.Check("Bearer secret-b", Access::kUse, kStart).decision.result, Result::kAllowed);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(check(1000).result, Result::kAllowed) << i;
  EXPECT_EQ(check(1000).result, Result::kOverQuota) << "not more than a minute's";
}

TEST(KeyRing, AReplacedRingForgetsKeysAndKeepsQuotas) {
  KeyRing ring;
  ApiKey key = KeyOf("alice", "secret-a");
  key.requests_per_minute = 1;
  ring.Replace({key, KeyOf("bob", "secret-b")}, kStart);
  EXPECT_EQ(ring.Check("Bearer secret-a", Access::kUse, kStart).decision.result, Result::kAllowed);
  key.name = "alice-2";
  ring.Replace({key}, kStart);
  EXPECT_EQ(ring.Check("Bearer secret-a", Access::kUse, kStart).decision.result,
            Result::kOverQuota);
  EXPECT_EQ(ring.Check("Bearer secret-b", Access::kUse, kStart).decision.result, Result::kWrongKey);
}

TEST(KeyFileYaml, ReadsWhatItDocuments) {
  const std::string digest = ToHex(Bytes(Sha256("secret")));
  const auto keys = ParseApiKeys(
      absl::StrCat("# ours\nkeys:\n  - name: alice\n    sha256: ", digest,
                   "\n    tenant: team\n    requests_per_minute: 60\n", "    admin: true\n"),
      "keys.yaml");
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 1u);
  EXPECT_EQ(keys->at(0).name, "alice");
  EXPECT_EQ(keys->at(0).tenant, "team");
  EXPECT_EQ(keys->at(0).sha256, Sha256("secret"));
  EXPECT_EQ(keys->at(0).requests_per_minute, 60);
  EXPECT_TRUE(keys->at(0).admin);
  EXPECT_TRUE(ParseApiKeys("keys: []", "keys.yaml").ok());
}

TEST(KeyFileYaml, SaysWhereAndWhatWithoutRepeatingSecrets) {
  const std::string good = "keys:\n  - name: alice\n    sha256: " + std::string(64, 'a') + "\n";
  const auto refusal = [](const std::string& yaml) {
    return std::string(ParseApiKeys(yaml, "keys.yaml").status().message());
  };
  EXPECT_THAT(refusal(""), HasSubstr("keys.yaml:1: the file must hold one list named keys"));
  EXPECT_THAT(refusal("keys: 3"), HasSubstr("one list named keys"));
  EXPECT_THAT(refusal(good + "other: 1\n"), HasSubstr("one list named keys"));
  EXPECT_THAT(refusal("keys:\n  - name: a\n"), HasSubstr("keys.yaml:2: a key needs name"));
  EXPECT_THAT(refusal(good + "    tenat: x\n"), HasSubstr("keys.yaml:4: a key has no field"));
  EXPECT_THAT(refusal(good + "    tenat: x\n"), HasSubstr("did you mean tenant?"));
  EXPECT_THAT(refusal(good + "    requests_per_minute: 0\n"), HasSubstr("must be 1 to"));
  EXPECT_THAT(refusal(good + good.substr(6)), HasSubstr("the name alice is there twice"));
  EXPECT_THAT(refusal(good + "  - name: bob\n    sha256: " + std::string(64, 'A') + "\n"),
              HasSubstr("same sha256"));
  EXPECT_THAT(refusal("keys:\n  - name: \"a b\"\n    sha256: x\n"), HasSubstr("without spaces"));
  for (const std::string yaml :
       {"keys:\n  - name: a\n    sha256: bt-secret\n", "keys:\n  - name: a\n    admin: bt-secret\n",
        "keys:\n  - name: a\n    requests_per_minute: bt-secret\n"}) {
    EXPECT_THAT(refusal(yaml), HasSubstr("keys.yaml:3: "));
    EXPECT_THAT(refusal(yaml), ::testing::Not(HasSubstr("bt-secret")));
  }
}

TEST(Crypto, MatchesPublishedVectors) {
  // FIPS 180-2, appendix B.1; RFC 4231, test case 2.
  EXPECT_EQ(ToHex(Bytes(Sha256("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(ToHex(Bytes(HmacSha256("Jefe", "what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(DigestFromHex(ToHex(Bytes(Sha256("x")))), Sha256("x"));
  EXPECT_EQ(DigestFromHex(std::string(63, 'a')), std::nullopt);
  EXPECT_EQ(DigestFromHex(std::string(63, 'a') + "g"), std::nullopt);
  EXPECT_NE(RandomBytes(32), RandomBytes(32));
}

}  // namespace
}  // namespace baton
