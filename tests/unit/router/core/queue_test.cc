// The queue: order, fair shares, and that nothing waits for ever.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <limits>
#include <map>
#include <random>

#include "router/core/request_queue.h"

namespace baton::router {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kSlot = 64;  // ms, of the ledger
constexpr absl::Time kStart = absl::UnixEpoch();

absl::Time At(double ms) { return kStart + absl::Milliseconds(ms); }

RequestQueue::Entry Entry(uint64_t number, double arrival_ms, double start_by_ms) {
  return {.request = RequestId(number),
          .arrival = At(arrival_ms),
          .start_by = At(start_by_ms),
          .arrival_number = number,
          .bytes = 10,
          .work = {.prefill_us = 1000, .rows = 1, .context = 10}};
}

RequestId Take(RequestQueue& queue, absl::Time now, double service_ms = 1) {
  const RequestId front = queue.Front(now);
  queue.Dispatch(front, service_ms);
  return front;
}

TEST(RequestQueue, OrdersOneFlowByPriorityThenSlackThenArrivalLikeASortedList) {
  const uint64_t seed = 5;
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  RequestQueue queue({.max_requests = 1000, .max_bytes = 100000}, {0});
  std::vector<RequestQueue::Entry> naive;
  for (uint64_t i = 0; i < 300; ++i) {
    RequestQueue::Entry entry = Entry(i, 0, static_cast<double>(random() % 10));
    entry.priority = static_cast<int32_t>(random() % 3);
    naive.push_back(entry);
    queue.Push(kStart, entry);
    if (random() % 4 == 0) {
      const auto victim = naive.begin() + static_cast<int64_t>(random() % naive.size());
      queue.Remove(victim->request);
      queue.Remove(victim->request);  // a second time changes nothing
      naive.erase(victim);
    }
  }
  std::sort(naive.begin(), naive.end(), [](const auto& a, const auto& b) {
    return std::tie(a.priority, a.start_by, a.arrival_number) <
           std::tie(b.priority, b.start_by, b.arrival_number);
  });
  for (const RequestQueue::Entry& expected : naive) {
    ASSERT_FALSE(queue.empty());
    EXPECT_EQ(Take(queue, kStart), expected.request);
  }
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.bytes(), 0);
  EXPECT_EQ(queue.Ahead(Entry(1, 0, 1e9), kStart, 1, false).prefill_us, 0);
}

TEST(RequestQueue, IsBoundedInCountInBytesAndByTenant) {
  RequestQueue queue({.max_requests = 3, .max_bytes = 45, .max_tenant_bytes = 25}, {0});
  EXPECT_TRUE(queue.HasRoom(0, 45));
  EXPECT_FALSE(queue.HasRoom(0, 46));
  EXPECT_FALSE(queue.HasRoom(7, 26)) << "one tenant may not have it all";
  RequestQueue::Entry entry = Entry(1, 0, 0);
  entry.tenant = 7;
  queue.Push(kStart, entry);
  EXPECT_FALSE(queue.HasRoom(7, 16));
  EXPECT_TRUE(queue.HasRoom(8, 16));
  queue.Push(kStart, Entry(2, 0, 0));
  queue.Push(kStart, Entry(3, 0, 0));
  EXPECT_FALSE(queue.HasRoom(0, 0));
  queue.Push(kStart, Entry(4, 0, 0));  // one that comes back is taken all the same
  EXPECT_EQ(queue.size(), 4);
  queue.Remove(RequestId(1));
  queue.Remove(RequestId(2));
  EXPECT_TRUE(queue.HasRoom(7, 25));
}

TEST(RequestQueue, WhatCanNoLongerMeetItsObjectiveGoesBehindWhatStillCan) {
  RequestQueue queue({.late_patience = absl::Seconds(1)}, {0});
  queue.Push(kStart, Entry(1, 0, 100));
  queue.Push(kStart, Entry(2, 0, 300));
  EXPECT_EQ(queue.Front(At(100)), RequestId(1));
  EXPECT_EQ(queue.Front(At(101)), RequestId(2)) << "1 is late";
  queue.Push(At(101), Entry(3, 101, 1200));
  EXPECT_EQ(Take(queue, At(101)), RequestId(2));
  EXPECT_EQ(Take(queue, At(101)), RequestId(1)) << "and counts as if due at 1100";
  RequestQueue::Entry back = Entry(4, 0, 50);
  back.returned = true;
  queue.Push(At(200), back);
  EXPECT_EQ(queue.Front(At(200)), RequestId(4)) << "its client is already being served";
}

// Sends 400 requests for each flow at once and returns how many of each the first 200 dispatches
// were.
std::map<uint64_t, int> Shares(const std::vector<RequestQueue::Entry>& flows) {
  RequestQueue queue({.max_requests = 10000}, {0, 0});
  uint64_t number = 0;
  for (int i = 0; i < 400; ++i) {
    for (RequestQueue::Entry entry : flows) {
      entry.arrival_number = ++number;
      entry.request = RequestId(number * 100 + entry.tenant);
      queue.Push(kStart, entry);
    }
  }
  std::map<uint64_t, int> shares;
  for (int i = 0; i < 200; ++i) ++shares[Take(queue, kStart).value() % 100];
  return shares;
}

TEST(RequestQueue, TenantsGetEqualSharesAndClassesGetTheirWeights) {
  RequestQueue::Entry a = Entry(0, 0, 1000), b = Entry(0, 0, 1000);
  a.tenant = 1;
  b.tenant = 2;
  EXPECT_NEAR(Shares({a, a, a, b})[2], 100, 2) << "though 1 sends three times as much";
  b.slo_class = 1;
  b.weight = 3;
  EXPECT_NEAR(Shares({a, b})[2], 150, 2);
}

TEST(RequestQueue, SlackDecidesWhileNobodyHasHadMoreThanOthers) {
  RequestQueue queue({}, {0});
  RequestQueue::Entry first = Entry(1, 0, 500), second = Entry(2, 0, 400);
  first.tenant = 1;
  second.tenant = 2;
  queue.Push(kStart, first);
  queue.Push(kStart, second);
  EXPECT_EQ(queue.Front(kStart), RequestId(2));
}

TEST(RequestQueue, BeingAwaySavesNothingUp) {
  RequestQueue queue({}, {0});
  uint64_t number = 0;
  const auto push = [&](uint64_t tenant) {
    RequestQueue::Entry entry = Entry(++number, 0, 1000);
    entry.tenant = tenant;
    queue.Push(kStart, entry);
  };
  for (int i = 0; i < 300; ++i) push(1);
  for (int i = 0; i < 100; ++i) Take(queue, kStart);
  for (int i = 0; i < 100; ++i) push(2);  // was not there
  int of_one = 0;
  for (int i = 0; i < 100; ++i) of_one += Take(queue, kStart).value() <= 300;
  EXPECT_NEAR(of_one, 50, 2);
}

TEST(RequestQueue, ALateRequestGoesBeforeWhatComesWhenItsPatienceIsOver) {
  RequestQueue queue({.late_patience = absl::Seconds(10)}, {0});
  RequestQueue::Entry late = Entry(1, 0, 1000);
  late.patience = absl::Seconds(1);
  queue.Push(kStart, late);
  queue.Push(kStart, Entry(2, 0, 1500));
  queue.Push(kStart, Entry(3, 1100, 2100));
  EXPECT_EQ(Take(queue, At(1200)), RequestId(2)) << "this one is in time yet";
  EXPECT_EQ(Take(queue, At(1200)), RequestId(1));
  EXPECT_EQ(Take(queue, At(1200)), RequestId(3));
}

TEST(RequestQueue, KnowsHowMuchLaterThoseBehindANewEntryCouldStart) {
  RequestQueue queue({}, {0});
  const RequestQueue::Entry entry = Entry(99, 0, 2'500);
  EXPECT_EQ(queue.TimeInHandBehindMs(entry, kStart, 1, 1, false), kInfinity) << "nobody is there";
  // Each of a millisecond, to be started by 1, 2, 3, … s.
  for (uint64_t i = 1; i <= 6; ++i)
    queue.Push(kStart, Entry(i, 0, 1000.0 * static_cast<double>(i)));
  // The one due at 3 s comes after two others.
  EXPECT_NEAR(queue.TimeInHandBehindMs(entry, kStart, 1, 1, false), 3000 - 2, kSlot);
  EXPECT_NEAR(queue.TimeInHandBehindMs(entry, kStart, 1, 1000, false), 6000 - 5000, kSlot)
      << "a slow cluster: the last one has the least time in hand";
  EXPECT_EQ(queue.TimeInHandBehindMs(Entry(99, 0, 7'000), kStart, 1, 1, false), kInfinity)
      << "it goes last";
  RequestQueue::Entry stranger = entry;
  stranger.tenant = 5;
  EXPECT_EQ(queue.TimeInHandBehindMs(stranger, kStart, 1, 1, false), kInfinity)
      << "flows have their shares";
  // One that has missed its objective is nothing to protect, wherever it ranks now.
  RequestQueue lost({.late_patience = absl::Seconds(10)}, {0});
  lost.Push(kStart, Entry(1, 0, 1000));
  lost.Push(kStart, Entry(2, 0, 1100));
  EXPECT_LT(lost.TimeInHandBehindMs(Entry(99, 0, 500), kStart, 1, 1, false), kInfinity);
  lost.Front(At(2000));
  EXPECT_EQ(lost.TimeInHandBehindMs(Entry(99, 0, 2500), At(2000), 1, 1, false), kInfinity);
}

TEST(RequestQueue, TimeInHandCountsWhatMayBeShedOnlyIfItStays) {
  RequestQueue queue({}, {0, 5});
  queue.Push(kStart, Entry(1, 0, 5'000));
  RequestQueue::Entry batch = Entry(2, 0, 2'000);
  batch.slo_class = 1;
  batch.work.prefill_us = 2'000'000;
  queue.Push(kStart, batch);
  const RequestQueue::Entry entry = Entry(99, 0, 3'000);
  const double with = queue.TimeInHandBehindMs(entry, kStart, 1, 1, false);
  const double without = queue.TimeInHandBehindMs(entry, kStart, 1, 1, true);
  EXPECT_GT(without, with + 300) << "its share of the time until then";
}

TEST(RequestQueue, KnowsTheWorkAheadAndWhomToShed) {
  RequestQueue queue({}, {0, 5, 9});
  for (uint64_t i = 0; i < 30; ++i) {
    RequestQueue::Entry entry = Entry(i, 0, 1000.0 * static_cast<double>(i));
    entry.slo_class = static_cast<int32_t>(i % 3);
    queue.Push(kStart, entry);
  }
  const absl::Time rank = queue.RankOf(kStart, At(9'500));
  RequestQueue::Entry entry = Entry(99, 0, 9'500);
  EXPECT_EQ(queue.Ahead(entry, kStart, 1, false).prefill_us, 10'000);
  EXPECT_EQ(queue.Ahead(entry, kStart, 1, false).context, 100);
  EXPECT_EQ(queue.Ahead(entry, kStart, 1, true).prefill_us, 4'000) << "its own class";
  entry.slo_class = 1;
  EXPECT_EQ(queue.Ahead(entry, kStart, 1, true).prefill_us, 7'000);
  entry.slo_class = 0;
  entry.start_by = kStart;  // no slack that others could use: they have their shares meanwhile
  entry.weight = 4;
  EXPECT_EQ(queue.Ahead(entry, kStart, 1, false).prefill_us, 1'000) << "its flow has one there";
  EXPECT_EQ(queue.ShedVictim(0, rank), RequestId(8)) << "the last of class 2 before the rank";
  EXPECT_EQ(queue.ShedVictim(0, absl::InfiniteFuture()), RequestId(29));
  EXPECT_EQ(queue.ShedVictim(0, At(1'500)), RequestId(1)) << "class 2 has none there";
  EXPECT_FALSE(queue.ShedVictim(2, absl::InfiniteFuture()).has_value());
}

// The claim of the header comment, for one request of the class of least weight that may start
// last, while three tenants send twice what is served and go on for ever.
TEST(RequestQueue, NothingThatArrivesAfterItsBoundGoesBeforeARequest) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    std::mt19937_64 random(seed);
    const QueueLimits limits{
        .max_requests = 1 << 20, .max_slack = absl::Seconds(5), .late_patience = absl::Seconds(2)};
    RequestQueue queue(limits, {0, 1});
    std::map<RequestId, absl::Time> arrivals;
    uint64_t number = 0;
    const auto push = [&](double now_ms, double start_by_ms, uint64_t tenant, bool batch) {
      RequestQueue::Entry entry = Entry(++number, now_ms, start_by_ms);
      entry.tenant = tenant;
      entry.slo_class = batch ? 1 : 0;
      entry.weight = batch ? 0.1 : 1;
      arrivals[entry.request] = At(now_ms);
      queue.Push(At(now_ms), entry);
      return entry.request;
    };
    const double probe_ms = static_cast<double>(random() % 200) * 10;
    RequestId probe;
    absl::Time bound = absl::InfiniteFuture(), latest_before = kStart;
    bool served = false;
    for (double now_ms = 0; now_ms < 60'000 && !served; now_ms += 10) {
      for (int i = 0; i < 2; ++i) {
        push(now_ms, now_ms + static_cast<double>(random() % 300), 1 + random() % 3, false);
      }
      if (now_ms == probe_ms) {
        probe = push(now_ms, 1e9, 9, true);
        bound = At(now_ms) + limits.max_slack + limits.late_patience;
      }
      const RequestId taken = queue.Front(At(now_ms));
      queue.Dispatch(taken, 10);
      served = taken == probe;
      if (!served && now_ms > probe_ms) latest_before = std::max(latest_before, arrivals[taken]);
    }
    EXPECT_TRUE(served) << "seed " << seed;
    EXPECT_LE(latest_before, bound) << "seed " << seed;
  }
}

}  // namespace
}  // namespace baton::router
