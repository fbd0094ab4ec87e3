// API keys over HTTP: every route asks for one, but health.
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "router/http/api.h"
#include "tests/unit/router/http/http_fixture.h"

namespace baton {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
using Result = AccessDecision::Result;

// Knows a user's key, an administrator's, and one that is used up.
class ThreeKeys final : public AccessControl {
 public:
  AccessDecision Check(std::string_view authorization, Access needed) override {
    if (authorization.empty()) return {.result = Result::kNoKey};
    if (authorization == "Bearer admin") return {.tenant = "admins"};
    if (authorization == "Bearer spent") {
      return {.result = Result::kOverQuota, .retry_after = absl::Milliseconds(1500)};
    }
    if (authorization != "Bearer user") return {.result = Result::kWrongKey};
    if (needed == Access::kAdmin) return {.result = Result::kNotAdmin};
    return {.tenant = "users"};
  }
};

class HttpAccess : public HttpFixture {
 protected:
  void SetUp() override {
    access_ = &keys_;
    Start();
  }
  int StatusOf(const ServedRoute& route, const std::string& authorization) const {
    const std::string header =
        authorization.empty() ? "" : absl::StrCat("Authorization: ", authorization, "\r\n");
    const std::string path(route.path == "/v1/models/" ? "/v1/models/x" : route.path);
    return route.method == "POST" ? HttpPost(port_, path, "{}", header).status
                                  : HttpGet(port_, path, header).status;
  }
  ThreeKeys keys_;
};

TEST_F(HttpAccess, EachRouteButHealthAsksForAKey) {
  std::set<std::string> open;
  for (const ServedRoute& route : ServedRoutes()) {
    SCOPED_TRACE(std::string(route.path));
    if (StatusOf(route, "") != 401) {
      open.emplace(route.path);
      continue;
    }
    EXPECT_EQ(StatusOf(route, "Bearer wrong"), 401);
    EXPECT_EQ(StatusOf(route, "Bearer spent"), 429);
    const int user = StatusOf(route, "Bearer user");
    const int admin = StatusOf(route, "Bearer admin");
    const bool for_admins = route.path == "/metrics" || route.path == "/cluster";
    EXPECT_EQ(user == 403, for_admins) << user;
    EXPECT_TRUE(admin == 200 || admin == 400 || admin == 404) << admin;
  }
  // The live page is the same for everybody and holds no data: it asks /cluster for that.
  EXPECT_THAT(open, UnorderedElementsAre("/health", "/livez", "/readyz", "/"));
}

TEST_F(HttpAccess, ARefusalSaysWhatIsNeededAndNothingElse) {
  const HttpReply none = HttpGet(port_, "/v1/models");
  EXPECT_EQ(none.headers.at("www-authenticate"), "Bearer");
  EXPECT_EQ(json::parse(none.body)["error"]["code"], "missing_api_key");
  const HttpReply wrong = HttpGet(port_, "/v1/models", "Authorization: Bearer bt-guess\r\n");
  EXPECT_EQ(json::parse(wrong.body)["error"]["code"], "invalid_api_key");
  EXPECT_FALSE(wrong.body.find("bt-guess") != std::string::npos);
  const HttpReply spent = HttpGet(port_, "/v1/models", "Authorization: Bearer spent\r\n");
  EXPECT_EQ(spent.headers.at("retry-after"), "2");
  EXPECT_EQ(json::parse(spent.body)["error"]["code"], "rate_limit_exceeded");
}

TEST_F(HttpAccess, ABodyIsNotReadBeforeItsKeyIsKnown) {
  HttpClient client(port_);
  client.Send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n");
  EXPECT_EQ(client.ReadReply().status, 401);
}

TEST_F(HttpAccess, PreflightIsAnsweredBeforeTheKeyIsAsked) {
  HttpClient client(port_);
  client.Send("OPTIONS /v1/completions HTTP/1.1\r\nOrigin: https://app.example\r\n\r\n");
  EXPECT_THAT(client.ReadUntil("\r\n\r\n"), HasSubstr("204 No Content"));
}

TEST_F(HttpAccess, TheTenantOfTheKeyReachesTheRouter) {
  const char* const body = R"({"prompt":"a","cache_salt":"s","user":"u"})";
  EXPECT_EQ(HttpPost(port_, "/v1/completions", body, "Authorization: Bearer user\r\n").status, 200);
  EXPECT_EQ(HttpPost(port_, "/v1/completions", body, "Authorization: Bearer admin\r\n").status,
            200);
  const RoutedRequest user = service_.submitted().at(0);
  const RoutedRequest admin = service_.submitted().at(1);
  const CallerNames names{.tenant = "users", .user = "u", .cache_salt = "s"};
  EXPECT_EQ(user.tenant, TenantOf(names));
  EXPECT_EQ(user.spec.cache_salt, CacheSaltOf(names));
  EXPECT_NE(user.tenant, admin.tenant);
  EXPECT_NE(user.spec.cache_salt, admin.spec.cache_salt);
}

}  // namespace
}  // namespace baton
