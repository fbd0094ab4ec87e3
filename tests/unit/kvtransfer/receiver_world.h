// A receiver core carried out as a shell would: one handoff, one peer, and what was said of them.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kvtransfer/core/receiver_core.h"
#include "kvtransfer/core/wire.h"
#include "kvtransfer/handoff.h"
#include "tests/unit/kvtransfer/handoff_terms.h"

namespace baton::testing {

// A receiver with one handoff of two blocks and one greeted connection, and what it has said.
struct ReceiverWorld {
  explicit ReceiverWorld(const HandoffCoreOptions& options = Options()) : core(options) {
    core.Open({.key = kKey, .blocks = {BlockId(3), BlockId(5)}, .lease_deadline = kStart + kLease},
              TheTicket(), now);
    core.ConnectionUp(ConnectionId(1), "test", now);
    Message(HelloMessage{BootId(2), kFingerprint, Options().layout, "p"});
    Collect();
  }
  void Message(const WireMessage& message, bool with_payload = false) {
    std::optional<ReceiverCore::Payload> payload;
    if (with_payload) {
      payload = {PayloadId(next_payload++), static_cast<uint64_t>(Options().layout.BlockBytes())};
      ++unanswered;
    }
    core.MessageArrived(ConnectionId(1), EncodeMessage(message), payload, now);
  }
  void Blocks(int32_t first, Ticket ticket = TheTicket()) {
    Message(BlocksMessage{ticket, 0, first, 1, static_cast<uint64_t>(Options().layout.BlockBytes()),
                          77},
            true);
  }
  void CompleteOne(bool ok, uint64_t checksum) {
    if (posted.empty()) return;
    const TransferId id = posted.front();
    posted.erase(posted.begin());
    core.ReceiveDone(id, ok, checksum, now);
  }
  void Tick(absl::Duration by) {
    now += by;
    core.Tick(now);
  }
  // Carries the actions out, as a shell would, until there are none.
  void Collect() {
    for (auto actions = core.TakeActions(); !actions.empty(); actions = core.TakeActions()) {
      for (const ReceiverAction& action : actions) Carry(action);
    }
    const absl::Status status = core.CheckInvariants();
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(unanswered, 0) << "a payload was left without an answer";
  }
  void Carry(const ReceiverAction& action) {
    if (const auto* accept = std::get_if<AcceptPayload>(&action)) {
      --unanswered;
      posted.push_back(accept->receive);
    } else if (std::holds_alternative<RefusePayload>(action)) {
      --unanswered;
      ++refused;
    } else if (std::holds_alternative<CloseConnection>(action)) {
      ++closed;
      posted.clear();
      core.ConnectionDestroyed(ConnectionId(1), now);
    } else if (const auto* emit = std::get_if<EmitReceiverEvent>(&action)) {
      sealed += std::holds_alternative<ReceiverEvent::Sealed>(emit->event.what);
      failed += std::holds_alternative<ReceiverEvent::Failed>(emit->event.what);
      released += std::holds_alternative<ReceiverEvent::Released>(emit->event.what);
      if (const auto* f = std::get_if<ReceiverEvent::Failed>(&emit->event.what)) {
        failure = f->failure;
      }
    }
  }
  // As in receiver_core.h.
  std::string State() const {
    const ReceiverCensus census = core.census();
    if (census.open) return "Open";
    if (census.landing) return "Landing";
    if (census.quarantined) return "Quarantined";
    return sealed ? "Sealed" : "Failed";
  }

  ReceiverCore core;
  absl::Time now = kStart;
  uint64_t next_payload = 1;
  std::vector<TransferId> posted;
  int unanswered = 0;
  int refused = 0;
  int closed = 0;
  int sealed = 0;
  int failed = 0;
  int released = 0;
  std::optional<HandoffFailure> failure;
};

}  // namespace baton::testing
