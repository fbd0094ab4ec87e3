// Two prefill workers and a decode worker as their pure cores, on a simulated network with a
// virtual clock. One seed is one schedule: what is sent when, which faults strike, who gives up.
//
// Memory is modelled by one value a block and layer, and the simulation watches it: who writes
// where, who may still read, what a sealed handoff holds. Blocks are handed out again as soon as
// they are released, so that a late write meets a new owner.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kvtransfer/core/mutations.h"
#include "kvtransfer/core/receiver_core.h"
#include "kvtransfer/core/sender_core.h"

namespace baton::testing {

// A small generator of our own: the same numbers on every platform and library version.
class SeededRandom {
 public:
  explicit SeededRandom(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t Next();
  int64_t Below(int64_t bound) {
    return static_cast<int64_t>(Next() % static_cast<uint64_t>(bound));
  }
  bool Chance(int percent) { return Below(100) < percent; }

 private:
  uint64_t state_;
};

struct SimulationCounts {  // to see that the schedules reach what they should
  int64_t events = 0;
  int64_t sealed = 0;
  int64_t failed = 0;
  int64_t delivered = 0;
  int64_t reopened = 0;  // same key, new ticket
};

class HandoffSimulation {
 public:
  explicit HandoffSimulation(uint64_t seed, HandoffMutations mutations = {});
  ~HandoffSimulation();

  // Runs the schedule to its end. The first broken invariant, or OK.
  absl::Status Run();
  const SimulationCounts& counts() const { return counts_; }

 private:
  static constexpr int kNumSenders = 2;
  static constexpr int32_t kNumLayers = 2;
  static constexpr int32_t kNumBlocks = 6;          // of each pool
  static constexpr uint64_t kGarbage = 0xdeadbeef;  // in blocks that nobody has written

  struct Owner {  // of a block
    RequestKey key;
    uint64_t generation = 0;
    friend bool operator==(const Owner&, const Owner&) = default;
  };
  struct Pool {
    std::vector<uint64_t> values;              // [kNumLayers, kNumBlocks]
    std::vector<std::optional<Owner>> owners;  // [kNumBlocks]
    std::deque<BlockId> free;
  };
  struct Side {  // of one handoff, as its owner sees it
    uint64_t generation = 0;
    Ticket ticket;
    std::vector<BlockId> blocks;
    int terminals = 0;
    bool live = false;  // opened and not released
    bool succeeded = false;
    HandoffTail tail;
  };
  struct Request {
    int sender = 0;
    int32_t num_blocks = 0;
    int attempts_left = 0;
    Side receive;
    Side send;
  };
  struct Wire {  // one connection
    int sender = 0;
    ConnectionId sender_id;
    ConnectionId receiver_id;
    bool sender_end = true;     // not destroyed
    bool receiver_end = false;  // up and not destroyed
    bool severed = false;       // nothing passes any more, and nobody is told
    absl::Time last_to_sender;
    absl::Time last_to_receiver;
  };
  struct Transfer {  // one SendBlocks
    size_t wire = 0;
    TransferId send;
    BlocksMessage message;
    std::vector<BlockId> source;
    int unanswered = 0;  // copies of the message without an answer
    bool corrupt = false;
    bool done = false;  // the sender was told
  };
  struct Receiving {
    TransferId receive;
    size_t transfer = 0;
    size_t wire = 0;
    RequestKey key;
    uint64_t generation = 0;
    int32_t layer = 0;
    std::vector<BlockId> blocks;
    bool ended = false;
    bool broken = false;  // the source could not be read
  };
  struct Event {
    absl::Time at;
    uint64_t order = 0;
    std::function<void()> run;
    friend bool operator>(const Event& a, const Event& b) {
      return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
  };

  // The schedule.
  void At(absl::Time at, std::function<void()> run);
  void After(absl::Duration delay, std::function<void()> run) { At(now_ + delay, std::move(run)); }
  absl::Duration Between(int64_t low_us, int64_t high_us);
  void StartRequest(RequestKey key);
  void StartSending(RequestKey key);
  void SchedulePushes(RequestKey key);
  void MaybeReopen(RequestKey key);
  void AbortReceive(RequestKey key);
  void AbortSend(RequestKey key);

  // Carrying out what the cores ask for.
  void Settle();
  void Do(const AcceptPayload& accept);
  void Do(const RefusePayload& refuse);
  void DoReceiver(const SendControl& send);
  void DoReceiver(const CloseConnection& close);
  void Do(const EmitReceiverEvent& emit);
  void Do(int sender, const OpenConnection& open);
  void Do(int sender, const SendBlocks& send);
  void Do(int sender, const SendControl& send);
  void Do(int sender, const CloseConnection& close);
  void Do(int sender, const EmitSenderEvent& emit);
  void ToReceiver(size_t wire, std::string header, std::optional<size_t> transfer);
  void ToSender(size_t wire, std::string header);
  void ArriveAtReceiver(size_t wire, const std::string& header, std::optional<size_t> transfer);
  void Answered(size_t transfer);
  void WriteOne(size_t receiving, size_t index);
  void EndReceiving(size_t receiving, bool ok);

  // Memory.
  std::vector<BlockId> Take(Pool& pool, int32_t count, const Owner& owner);
  void Give(Pool& pool, const std::vector<BlockId>& blocks);
  static uint64_t& Value(Pool& pool, int32_t layer, BlockId block);
  static uint64_t Expected(const Owner& owner, int32_t layer, int32_t logical_block);
  size_t WireOfReceiver(ConnectionId id) const;
  size_t WireOfSender(int sender, ConnectionId id) const;

  void Violation(const std::string& what);
  void CheckCores();
  void CheckEnd();

  SeededRandom random_;
  const HandoffMutations mutations_;
  int fault_percent_ = 0;
  absl::Time now_ = absl::UnixEpoch();
  uint64_t next_order_ = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::unique_ptr<ReceiverCore> receiver_;
  std::vector<std::unique_ptr<SenderCore>> senders_;
  Pool landing_;
  std::vector<Pool> sources_;
  std::map<RequestKey, Request> requests_;
  std::vector<Wire> wires_;
  std::vector<Transfer> transfers_;
  std::vector<Receiving> receivings_;
  std::map<PayloadId, size_t> payloads_;  // announced, to its transfer
  uint64_t next_payload_ = 1;
  uint64_t next_generation_ = 1;
  uint64_t next_receiver_connection_ = 1;
  absl::Status violation_;
  SimulationCounts counts_;
};

}  // namespace baton::testing
