// One request of a run, from its sending to its record. Internal to bench/load/client.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "bench/load/client/connection.h"
#include "bench/load/core/stream_reader.h"

namespace baton::load {

class Flight;

// The run that a flight belongs to; outlives it.
class FlightOwner {
 public:
  virtual ~FlightOwner() = default;
  virtual double NowMs() const = 0;
  virtual void OnTokens(int64_t count) = 0;
  // The record is complete; called once. The flight may still wait for the exchange to end, so that
  // its connection can be kept.
  virtual void OnSettled(Flight& flight) = 0;
  // The exchange is over: destroys the flight.
  virtual void OnExchangeEnd(Flight& flight) = 0;
  // A kept connection turned out closed before the answer began.
  virtual void Resend(Flight& flight) = 0;
};

class Flight final : public ExchangeSink {
 public:
  Flight(FlightOwner& owner, RequestRecord* record, std::shared_ptr<Connection> connection);

  void Send(std::string request);
  void UseConnection(std::shared_ptr<Connection> connection);
  // Ends the record and closes the connection; the exchange reports nothing more.
  void Fail(Outcome outcome, std::string detail);

  const RequestRecord& record() const { return *record_; }
  const std::shared_ptr<Connection>& connection() const { return connection_; }

  void OnHead(const ResponseHead& head) override;
  void OnBody(std::string_view bytes) override;
  void OnEnd(ExchangeEnd end, bool started, const std::string& detail) override;

 private:
  void SettleByEnd(ExchangeEnd end, bool started, const std::string& detail);
  void SettleByStatus();

  FlightOwner& owner_;
  RequestRecord* const record_;
  std::shared_ptr<Connection> connection_;  // shared with its own pending operations
  StreamReader reader_;
  bool streaming_ = false;  // status 200 and an event stream
  bool reported_ = false;   // OnSettled was called
  std::string error_body_;  // the beginning of another answer
};

}  // namespace baton::load
