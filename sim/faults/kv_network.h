// The KV connections of a simulated cluster: carries out what the handoff cores ask for, loses,
// repeats, delays and spoils messages, and watches the memory. Payloads land block by block, read
// from the source when they land, as a receiver-driven get does: a block that is given away too
// early is written or read by the wrong owner.
//
// It throws Violation for what breaks H2, H2b, H3 and H7.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kvtransfer/core/receiver_core.h"
#include "kvtransfer/core/sender_core.h"
#include "sim/event_queue.h"
#include "sim/faults/history.h"
#include "sim/random.h"
#include "sim/toy_model.h"
#include "worker/role_core.h"

namespace baton::sim {

// One process in one life.
struct ProcessId {
  int32_t worker = 0;
  BootId boot;
  friend auto operator<=>(const ProcessId&, const ProcessId&) = default;
};

// A process as the network sees it: it has one of the two cores.
class KvEnd {
 public:
  virtual ~KvEnd() = default;
  virtual ProcessId id() const = 0;
  virtual absl::Time Now() const = 0;  // by its own clock
  virtual SenderCore* sender() = 0;
  virtual ReceiverCore* receiver() = 0;
  virtual ToyMemory& memory() = 0;
  virtual void OnHandoff(HandoffEvent event) = 0;
};

// What strikes the connections of a worker at the moment.
struct KvWeather {
  int32_t noise_percent = 0;  // of messages lost, repeated, late or corrupt
  int32_t slow_writes = 1;    // payloads take up to so many times as long
  bool partitioned = false;
};

class KvHost {
 public:
  virtual ~KvHost() = default;
  // Runs `run` in the process as soon as it is not paused; never when it is gone.
  virtual void InProcess(ProcessId process, std::function<void(KvEnd&)> run) = 0;
  virtual KvEnd* Alive(ProcessId process) = 0;                   // null: gone
  virtual std::optional<ProcessId> Running(int32_t worker) = 0;  // who listens there now
  virtual KvWeather Weather(int32_t worker) const = 0;
};

class KvNetwork {
 public:
  KvNetwork(EventQueue& events, KvHost& host, uint64_t seed)
      : events_(events), host_(host), random_(seed) {}

  // What the cores of `end` ask for, until they ask for nothing more; checks their invariants.
  void Settle(KvEnd& end);
  // A landing place or a source is in use until its core says Released.
  void LandingOpened(KvEnd& end, const Ticket& ticket, const std::vector<BlockId>& blocks);
  void SourceOpened(KvEnd& end, const Ticket& ticket);

  // Connections of a worker break; `silent`: nobody is told.
  void Cut(int32_t worker, bool silent);
  // The process is gone with its memory and its ends of the connections.
  void Died(ProcessId process, bool silent);

  int64_t payloads_landed() const { return landed_; }

 private:
  struct Wire {  // one connection
    ProcessId sender, receiver;
    ConnectionId sender_id, receiver_id;
    bool sender_end = true;     // not destroyed
    bool receiver_end = false;  // up and not destroyed
    bool severed = false;       // nothing passes any more
    absl::Time last_to_sender, last_to_receiver;
  };
  struct Transfer {  // one SendBlocks
    size_t wire = 0;
    TransferId send;
    BlocksMessage message;
    std::vector<BlockId> source;
    std::vector<uint64_t> content;  // hash of each source block when it was posted
    int32_t unanswered = 0;         // copies of the message without an answer
    bool corrupt = false;
    bool lost = false;  // on the way, and called a success
    bool done = false;  // the sender was told
  };
  struct Receiving {
    TransferId receive;
    size_t transfer = 0;
    size_t wire = 0;
    int32_t layer = 0;
    std::vector<BlockId> blocks;
    bool ended = false;
    bool broken = false;  // the source could not be read
  };
  // A ticket is unique among all lives: (boot, generation) of the receiver.
  using TicketName = std::pair<uint64_t, uint64_t>;
  static TicketName NameOf(const Ticket& ticket) {
    return {ticket.receiver_boot.value(), ticket.generation};
  }
  struct Landing {
    Ticket ticket;
    std::set<BlockId> blocks;
    int32_t posted = 0;
  };

  void Do(KvEnd& end, const OpenConnection& open);
  void Do(KvEnd& end, const SendBlocks& send);
  void Do(KvEnd& end, const EmitSenderEvent& emit);
  void Do(KvEnd& end, const AcceptPayload& accept);
  void Do(const RefusePayload& refuse);
  void Do(KvEnd& end, const EmitReceiverEvent& emit);
  void FromSender(KvEnd& end, const SendControl& send);
  void FromReceiver(KvEnd& end, const SendControl& send);
  void CloseSender(KvEnd& end, const CloseConnection& close);
  void CloseReceiver(KvEnd& end, const CloseConnection& close);

  void ToReceiver(size_t wire, std::string header, std::optional<size_t> transfer);
  void ToSender(size_t wire, std::string header);
  void Arrive(size_t wire, const std::string& header, std::optional<size_t> transfer, KvEnd& end);
  size_t TakePayload(PayloadId payload);  // its transfer; once
  void Answered(size_t transfer);
  // A handoff has one end, then its Released.
  void Ended(KvEnd& end, const TicketName& name, bool released);
  void WriteOne(size_t receiving, size_t index);
  void EndReceiving(size_t receiving);
  void TellSender(size_t wire, absl::Duration after, const char* why);
  void TellReceiver(size_t wire, absl::Duration after, const char* why);
  void Sever(size_t wire, bool silent);
  size_t WireOf(const KvEnd& end, ConnectionId id) const;  // wires_.size(): none
  KvWeather WeatherOf(const Wire& wire) const;
  absl::Time Arrival(absl::Time* last, int32_t noise);
  static uint64_t Checksum(ToyMemory& memory, int32_t layer, const std::vector<BlockId>& blocks);

  EventQueue& events_;
  KvHost& host_;
  Random random_;
  std::vector<Wire> wires_;
  std::vector<Transfer> transfers_;
  std::vector<Receiving> receivings_;
  std::map<PayloadId, size_t> payloads_;    // announced, to its transfer
  std::map<TicketName, Landing> landings_;  // until Released
  std::map<std::pair<ProcessId, RequestKey>, TicketName> landing_names_, source_names_;
  std::map<std::pair<ProcessId, TicketName>, int32_t> sources_;  // until Released: sends posted
  std::set<TicketName> sealed_;
  std::set<std::pair<ProcessId, TicketName>> ended_;  // told their one end
  uint64_t next_payload_ = 1;
  uint64_t next_connection_ = 1;
  int64_t landed_ = 0;
};

}  // namespace baton::sim
