#include "bench/load/client/run_load.h"

#include <sys/resource.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/load/client/connection.h"
#include "bench/load/client/flight.h"
#include "bench/load/client/resolve.h"
#include "common/check.h"
#include "common/file_limit.h"
#include "common/strings.h"

namespace baton::load {
namespace {

using SteadyClock = std::chrono::steady_clock;
using ErrorCode = boost::system::error_code;

constexpr auto kTick = std::chrono::milliseconds(10);
constexpr size_t kReadBytes = 64u << 10;
// Requests rendered ahead of their time, so that rendering does not make them late.
constexpr size_t kRenderedAhead = 256;
constexpr size_t kRenderedBytes = 32u << 20;

double ThreadCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Runner final : public FlightOwner {
 public:
  Runner(const LoadPlan& plan, const Target& target, const LoadHooks& hooks,
         std::vector<Connection::tcp::endpoint> endpoints)
      : plan_(plan),
        target_(target),
        hooks_(hooks),
        endpoints_(std::move(endpoints)),
        buffer_(kReadBytes),
        flights_(plan.requests.size()),
        send_timer_(io_),
        tick_timer_(io_) {
    result_.records.resize(plan.requests.size());
  }

  LoadResult Run() {
    const double cpu_before = ThreadCpuSeconds();
    while (RenderNext()) {
    }
    start_ = SteadyClock::now();
    next_tick_ = start_ + kTick;
    ArmSend();
    ArmTick();
    io_.run();
    result_.overhead.wall_s = std::chrono::duration<double>(SteadyClock::now() - start_).count();
    result_.overhead.cpu_s = ThreadCpuSeconds() - cpu_before;
    result_.overhead.loop_lag_ms = Describe(std::move(lags_ms_));
    result_.overhead.read_lag_ms = Describe(buffer_.lags_ms());
    result_.overhead.output_tokens = progress_.output_tokens;
    result_.records.resize(next_);
    return std::move(result_);
  }

 private:
  // FlightOwner
  double NowMs() const override {
    return std::chrono::duration<double, std::milli>(SteadyClock::now() - start_).count();
  }
  void OnTokens(int64_t count) override {
    progress_.output_tokens += count;
    if (count > 0 && hooks_.on_tokens) hooks_.on_tokens(progress_.output_tokens);
  }
  void OnSettled(Flight& flight) override;
  void OnExchangeEnd(Flight& flight) override;
  void Resend(Flight& flight) override;

  SteadyClock::time_point TimeOf(absl::Duration offset) const {
    return start_ + absl::ToChronoNanoseconds(offset);
  }

  bool RenderNext();
  void RenderAhead();
  std::string Rendered(size_t index);
  void ArmSend();
  void SendDue();
  void SendOne(size_t index);
  std::shared_ptr<Connection> NewConnection();
  void ArmTick();
  void OnTick();
  void ExpireOverdue(SteadyClock::time_point now);
  void Interrupt();
  void StopIfDone();
  bool AllEnded() const { return progress_.ended == static_cast<int64_t>(last_); }

  const LoadPlan& plan_;
  const Target& target_;
  const LoadHooks& hooks_;
  const std::vector<Connection::tcp::endpoint> endpoints_;
  boost::asio::io_context io_{1};
  ReadBuffer buffer_;
  LoadResult result_;

  std::vector<std::unique_ptr<Flight>> flights_;   // [requests] null: not sent, or gone
  std::vector<std::shared_ptr<Connection>> idle_;  // the other owners are pending operations
  std::vector<std::string> rendered_;              // requests next_ … in a ring, see Rendered
  size_t rendered_end_ = 0;                        // first request that is not rendered
  size_t rendered_bytes_ = 0;
  bool rendering_ = false;               // a RenderNext is posted
  size_t next_ = 0;                      // first request that is not sent
  size_t last_ = plan_.requests.size();  // where sending ends
  size_t oldest_ = 0;                    // first request that may still time out
  SteadyClock::time_point start_;
  boost::asio::steady_timer send_timer_;
  boost::asio::steady_timer tick_timer_;
  SteadyClock::time_point next_tick_;
  SteadyClock::time_point next_progress_;
  std::vector<double> lags_ms_;
  LoadProgress progress_;
  bool interrupt_ = false;  // a hook asked for the end
  bool stopped_ = false;
};

// Renders one request ahead; false when there is no need.
bool Runner::RenderNext() {
  if (rendered_.empty()) rendered_.resize(kRenderedAhead);
  rendered_end_ = std::max(rendered_end_, next_);
  if (rendered_end_ >= last_ || rendered_end_ - next_ >= kRenderedAhead ||
      rendered_bytes_ >= kRenderedBytes) {
    return false;
  }
  const PlannedRequest& request = plan_.requests[rendered_end_];
  const SloClass& slo_class = plan_.classes[static_cast<size_t>(request.slo_class)];
  std::string& slot = rendered_[rendered_end_ % kRenderedAhead];
  slot = RenderPost(target_, slo_class.name, RequestBody(request, plan_, target_.body));
  rendered_bytes_ += slot.size();
  ++rendered_end_;
  return true;
}

void Runner::RenderAhead() {
  if (rendering_) return;
  rendering_ = true;
  // One at a time between other events: a long prompt must not hold up the streams for long.
  boost::asio::post(io_, [this] {
    rendering_ = false;
    if (!stopped_ && RenderNext()) RenderAhead();
  });
}

std::string Runner::Rendered(size_t index) {
  if (rendered_end_ <= index) (void)RenderNext();
  std::string request = std::exchange(rendered_[index % kRenderedAhead], {});
  rendered_bytes_ -= request.size();
  return request;
}

void Runner::ArmSend() {
  if (next_ >= last_) return;
  send_timer_.expires_at(TimeOf(plan_.requests[next_].at));
  send_timer_.async_wait([this](const ErrorCode& error) {
    if (!error && !stopped_) SendDue();
  });
}

void Runner::SendDue() {
  while (next_ < last_ && TimeOf(plan_.requests[next_].at) <= SteadyClock::now()) {
    SendOne(next_);
  }
  RenderAhead();
  ArmSend();
}

void Runner::SendOne(size_t index) {
  const PlannedRequest& planned = plan_.requests[index];
  RequestRecord& record = result_.records[index];
  record.index = static_cast<int64_t>(index);
  record.slo_class = planned.slo_class;
  record.warmup = planned.warmup;
  record.prompt_tokens = planned.prompt_tokens;
  record.asked_tokens = planned.output_tokens;
  record.intended_ms = absl::ToDoubleMilliseconds(planned.at);
  std::string request = Rendered(index);
  ++next_;
  std::shared_ptr<Connection> connection;
  if (idle_.empty()) {
    connection = NewConnection();
  } else {
    connection = std::move(idle_.back());
    idle_.pop_back();
  }
  flights_[index] = std::make_unique<Flight>(*this, &record, std::move(connection));
  record.sent_ms = NowMs();
  progress_.sent = static_cast<int64_t>(next_);
  progress_.last_late_ms = record.late_ms();
  flights_[index]->Send(std::move(request));
}

std::shared_ptr<Connection> Runner::NewConnection() {
  ++result_.overhead.connections;
  return std::make_shared<Connection>(io_, endpoints_, buffer_);
}

void Runner::OnSettled(Flight& flight) {
  ++progress_.ended;
  if (flight.record().outcome == Outcome::kOk) ++progress_.succeeded;
  // Left to the tick: we are inside the flight.
  if (hooks_.on_ended && !hooks_.on_ended(flight.record())) interrupt_ = true;
  StopIfDone();
}

void Runner::OnExchangeEnd(Flight& flight) {
  if (!stopped_ && flight.connection()->reusable()) idle_.push_back(flight.connection());
  flights_[static_cast<size_t>(flight.record().index)].reset();
}

void Runner::Resend(Flight& flight) {
  ++result_.overhead.reconnections;
  const auto index = static_cast<size_t>(flight.record().index);
  const PlannedRequest& request = plan_.requests[index];
  const SloClass& slo_class = plan_.classes[static_cast<size_t>(request.slo_class)];
  flight.UseConnection(NewConnection());
  flight.Send(RenderPost(target_, slo_class.name, RequestBody(request, plan_, target_.body)));
}

void Runner::ArmTick() {
  tick_timer_.expires_at(next_tick_);
  tick_timer_.async_wait([this](const ErrorCode& error) {
    if (!error && !stopped_) OnTick();
  });
}

void Runner::OnTick() {
  const SteadyClock::time_point now = SteadyClock::now();
  lags_ms_.push_back(std::chrono::duration<double, std::milli>(now - next_tick_).count());
  while (next_tick_ <= now) next_tick_ += kTick;
  ExpireOverdue(now);
  if (hooks_.on_progress && now >= next_progress_ && !stopped_) {
    next_progress_ = now + absl::ToChronoNanoseconds(hooks_.interval);
    progress_.elapsed = absl::FromChrono(now - start_);
    progress_.planned = static_cast<int64_t>(plan_.requests.size());
    if (!hooks_.on_progress(progress_)) interrupt_ = true;
  }
  if (interrupt_ && !stopped_) Interrupt();
  if (!stopped_) ArmTick();
}

void Runner::ExpireOverdue(SteadyClock::time_point now) {
  // Deadlines ascend with the plan, so the requests that may be overdue are the oldest.
  while (oldest_ < next_ && TimeOf(plan_.requests[oldest_].at + target_.timeout) <= now) {
    if (flights_[oldest_] != nullptr) {
      flights_[oldest_]->Fail(
          Outcome::kTimedOut,
          absl::StrCat("no end within ", absl::FormatDuration(target_.timeout)));
      flights_[oldest_].reset();
    }
    ++oldest_;
  }
}

void Runner::Interrupt() {
  interrupt_ = false;
  result_.interrupted = true;
  last_ = next_;
  for (size_t i = oldest_; i < next_; ++i) {
    if (flights_[i] != nullptr) flights_[i]->Fail(Outcome::kAborted, "the run was interrupted");
  }
  StopIfDone();
}

void Runner::StopIfDone() {
  if (stopped_ || !AllEnded()) return;
  stopped_ = true;
  send_timer_.cancel();
  tick_timer_.cancel();
  // From a handler of its own: we may be inside a connection or a flight.
  boost::asio::post(io_, [this] {
    for (const auto& connection : idle_) connection->Close();
    idle_.clear();
    for (auto& flight : flights_) {
      if (flight != nullptr) flight->connection()->Close();
      flight.reset();
    }
  });
}

}  // namespace

absl::StatusOr<LoadResult> RunLoad(const LoadPlan& plan, const Target& target,
                                   const LoadHooks& hooks) {
  BATON_CHECK(!plan.requests.empty());
  ASSIGN_OR_RETURN(auto endpoints, Resolve(target.url));
  RaiseFileLimit();
  return Runner(plan, target, hooks, std::move(endpoints)).Run();
}

}  // namespace baton::load
