// Who is taken out of service for being slow, and how one comes back.
#include "router/core/ejection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace baton::router {
namespace {

using ::testing::ElementsAre;

// A step takes 10 ms as calibrated.
class EjectionTest : public ::testing::Test {
 protected:
  EjectionTest() { Run(absl::Seconds(1)); }  // all have reported
  // Each worker makes its steps and reports, once a second.
  void Run(absl::Duration time) {
    for (; time > absl::ZeroDuration(); time -= absl::Seconds(1)) {
      now_ += absl::Seconds(1);
      for (size_t i = 0; i < slowness_.size(); ++i) {
        if (gone_.contains(i)) continue;
        SpeedReport& report = reports_[i];
        report.steps += a_second_[i];
        const double calibrated_ms = 10.0 * static_cast<double>(a_second_[i]);
        report.step_time.calibrated_ms += calibrated_ms;
        report.step_time.measured_ms += slowness_[i] * calibrated_ms;
        report.alone_ms = alone_ms_[i];
        report.draining = draining_.contains(i);
        pool_.Report(now_, WorkerIndex(static_cast<int32_t>(i)), report);
      }
    }
  }
  // One step of `worker` takes that much longer than it should.
  void HoldUp(size_t worker, absl::Duration by) {
    reports_[worker].step_time.measured_ms += absl::ToDoubleMilliseconds(by);
  }
  void Die(size_t worker) {
    gone_.insert(worker);
    reports_[worker] = {};
    pool_.Gone(WorkerIndex(static_cast<int32_t>(worker)));
  }
  Standing Of(int32_t worker) const { return pool_.standing(WorkerIndex(worker)); }
  // Of worker 0, which is made slow.
  void Eject() {
    slowness_[0] = 5;
    Run(absl::Seconds(13));
    ASSERT_EQ(Of(0), Standing::kOut);
  }

  EjectionPool pool_{{}, 4};
  std::vector<double> slowness_ = {1, 1, 1, 1};
  std::vector<double> alone_ms_ = {10, 10, 10, 10};  // as calibrated
  std::vector<uint64_t> a_second_ = {20, 20, 20, 20};
  std::vector<SpeedReport> reports_ = std::vector<SpeedReport>(4);
  std::set<size_t> gone_, draining_;
  absl::Time now_ = absl::UnixEpoch();
};

TEST_F(EjectionTest, OneThatIsSlowForTenSecondsIsOutWithinFifteen) {
  slowness_[0] = 3.1;
  Run(absl::Seconds(9));
  EXPECT_EQ(Of(0), Standing::kIn);
  Run(absl::Seconds(4));
  EXPECT_EQ(Of(0), Standing::kOut);
  EXPECT_EQ(pool_.num_out(), 1);
}

TEST_F(EjectionTest, NotOneThatIsSlowNowAndThen) {
  for (int i = 0; i < 10; ++i) {
    slowness_[0] = 5;
    Run(absl::Seconds(8));
    slowness_[0] = 1;
    Run(absl::Seconds(3));
    EXPECT_EQ(Of(0), Standing::kIn);
  }
}

TEST_F(EjectionTest, OneThatStallsAndRunsBetweenIsSlowByItsMean) {
  slowness_[0] = 0.9;
  for (int i = 0; i < 13; ++i) {
    HoldUp(0, absl::Milliseconds(500));  // each second has 200 ms of steps
    Run(absl::Seconds(1));
  }
  EXPECT_EQ(Of(0), Standing::kOut);
}

TEST_F(EjectionTest, NotForOneStepThatWasHeldUp) {
  HoldUp(0, absl::Seconds(30));
  Run(absl::Seconds(3));
  a_second_[0] = 0;  // idle from then on: nothing shows that it is well
  Run(absl::Seconds(60));
  EXPECT_EQ(Of(0), Standing::kIn);
}

TEST_F(EjectionTest, OneThatIsIdleBetweenSlowStepsIsSlow) {
  slowness_[0] = 5;
  for (int i = 0; i < 2; ++i) {
    a_second_[0] = 1;
    Run(absl::Seconds(1));
    a_second_[0] = 0;
    Run(absl::Seconds(5));
  }
  EXPECT_EQ(Of(0), Standing::kOut);
}

TEST_F(EjectionTest, NotWhenAllAreSlow) {
  slowness_ = {6, 5, 4, 5};
  Run(absl::Seconds(60));
  EXPECT_EQ(pool_.num_out(), 0);
}

TEST_F(EjectionTest, NotBesideOneThatMeasuredItselfUnderLoad) {
  slowness_ = {4, 4, 1, 1};
  alone_ms_ = {10, 10, 40, 40};  // all take 40 ms now
  Run(absl::Seconds(30));
  EXPECT_EQ(pool_.num_out(), 0);
  slowness_ = {1, 1, 0.25, 0.25};  // and 10 ms when the load is gone
  Run(absl::Seconds(30));
  EXPECT_EQ(pool_.num_out(), 0);
}

TEST_F(EjectionTest, NeverMoreThanHalfOfThoseThatServe) {
  Die(3);
  slowness_ = {9, 9, 1, 1};
  Run(absl::Seconds(14));
  EXPECT_EQ(pool_.num_out(), 0) << "the median is 9";
  slowness_ = {9, 1, 1, 1};
  Run(absl::Seconds(14));
  EXPECT_EQ(Of(0), Standing::kOut);
  slowness_ = {90, 5, 1, 1};
  Run(absl::Seconds(4));
  EXPECT_EQ(Of(1), Standing::kIn);
}

TEST_F(EjectionTest, ADeathOrADrainBringsOthersBackIfTheyAreNeeded) {
  slowness_ = {9, 9, 1, 1};
  Run(absl::Seconds(14));
  ASSERT_EQ(pool_.num_out(), 2);
  pool_.TakeChanges();
  Die(3);
  EXPECT_THAT(pool_.TakeChanges(), ElementsAre(WorkerIndex(0)));
  EXPECT_NE(Of(1), Standing::kIn) << "one of three may be out";
  draining_.insert(0);
  Run(absl::Seconds(1));
  EXPECT_NE(Of(1), Standing::kIn) << "one of two";
  draining_.insert(2);
  Run(absl::Seconds(1));
  EXPECT_EQ(Of(1), Standing::kIn) << "nobody else is left";
  Run(absl::Seconds(60));
  EXPECT_EQ(Of(1), Standing::kIn);
}

TEST_F(EjectionTest, ComesBackWhenItsProbesAreQuick) {
  Eject();
  a_second_[0] = 0;
  Run(absl::Seconds(5));
  EXPECT_EQ(Of(0), Standing::kProbing);
  Run(absl::Seconds(100));
  EXPECT_EQ(Of(0), Standing::kProbing) << "nothing was placed on it: nothing is known";
  slowness_[0] = 1.9;
  a_second_[0] = 7;
  Run(absl::Seconds(1));
  EXPECT_EQ(Of(0), Standing::kProbing) << "too few steps";
  Run(absl::Seconds(1));
  EXPECT_EQ(Of(0), Standing::kIn);
  EXPECT_EQ(pool_.num_out(), 0);
}

TEST_F(EjectionTest, IsProbedLessAndLessOftenWhileTheyAreSlow) {
  Eject();
  for (const int seconds : {5, 10, 20, 40, 60, 60}) {
    while (Of(0) == Standing::kOut) Run(absl::Seconds(1));
    const absl::Time probed = now_;
    while (Of(0) == Standing::kProbing) Run(absl::Seconds(1));
    EXPECT_EQ(now_ - probed, absl::Seconds(2));
    ASSERT_EQ(Of(0), Standing::kOut) << seconds;
    const absl::Time out = now_;
    while (Of(0) == Standing::kOut) Run(absl::Seconds(1));
    EXPECT_EQ(now_ - out, std::min(absl::Seconds(2 * seconds), absl::Seconds(60)));
  }
}

TEST_F(EjectionTest, ANewProcessStartsInServiceAndFromNothing) {
  Eject();
  Die(0);
  EXPECT_EQ(pool_.num_out(), 0);
  gone_.clear();
  Run(absl::Seconds(9));
  EXPECT_EQ(Of(0), Standing::kIn) << "what the last one did is not held against it";
  Run(absl::Seconds(4));
  EXPECT_EQ(Of(0), Standing::kOut);
}

TEST_F(EjectionTest, OfTwoOneMayGoAndTheLastOneNever) {
  Die(2);
  Die(3);
  Eject();
  Die(1);
  EXPECT_EQ(Of(0), Standing::kIn);
  Run(absl::Seconds(60));
  EXPECT_EQ(Of(0), Standing::kIn);
}

}  // namespace
}  // namespace baton::router
