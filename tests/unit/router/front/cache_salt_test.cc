// Whose share a request counts against, and whose prefix-cache entries it may hit.
#include <gtest/gtest.h>

#include <set>

#include "router/front/limits.h"

namespace baton {
namespace {

TEST(CallerNames, TheTenantOfTheKeyGoesBeforeAllThatARequestSaysOfItself) {
  const uint64_t tenant = TenantOf({.tenant = "a", .authorization = "Bearer 1", .user = "u"});
  EXPECT_EQ(tenant, TenantOf({.tenant = "a", .authorization = "Bearer 2", .user = "v"}));
  EXPECT_NE(tenant, TenantOf({.tenant = "b", .authorization = "Bearer 1", .user = "u"}));
  // No other name passes for it.
  const std::set<uint64_t> distinct = {TenantOf({.tenant = "x"}), TenantOf({.authorization = "x"}),
                                       TenantOf({.user = "x"}), TenantOf({.cache_salt = "x"}),
                                       TenantOf({})};
  EXPECT_EQ(distinct.size(), 5u);
  EXPECT_EQ(TenantOf({}), 0u);
}

TEST(CallerNames, TenantsHaveCacheEntriesOfTheirOwn) {
  EXPECT_EQ(CacheSaltOf({}), 0u);
  EXPECT_EQ(CacheSaltOf({.authorization = "Bearer 1", .user = "u"}), 0u);
  const std::set<uint64_t> distinct = {CacheSaltOf({.tenant = "a"}),
                                       CacheSaltOf({.tenant = "b"}),
                                       CacheSaltOf({.tenant = "a", .cache_salt = "s"}),
                                       CacheSaltOf({.cache_salt = "s"}),
                                       CacheSaltOf({.tenant = "as"}),
                                       CacheSaltOf({.tenant = "a", .cache_salt = "2:as"})};
  EXPECT_EQ(distinct.size(), 6u);
  EXPECT_FALSE(distinct.contains(0));
}

}  // namespace
}  // namespace baton
