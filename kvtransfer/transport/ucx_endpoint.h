// One UCX worker with one endpoint on it: the data path of one connection. Not thread-safe.
#pragma once

#include <ucp/api/ucp.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kvtransfer/transport.h"
#include "kvtransfer/transport/ucx_context.h"

namespace baton {

class UcxEndpoint {
 public:
  using DoneFn = std::function<void(absl::Status)>;
  using MessageFn =
      std::function<void(std::span<const std::byte>, std::unique_ptr<IncomingPayload>)>;

  // `context` must outlive the endpoint.
  static absl::StatusOr<std::unique_ptr<UcxEndpoint>> Create(const UcxContext& context);
  // Destroys the UCX worker, then calls every outstanding `done`: nothing is read or written after.
  ~UcxEndpoint();
  UcxEndpoint(const UcxEndpoint&) = delete;
  UcxEndpoint& operator=(const UcxEndpoint&) = delete;

  // What the other side gives to its Connect.
  absl::StatusOr<std::string> Address() const;
  absl::Status Connect(const std::string& peer_address);
  // Two kinds of empty messages that only make endpoints known to each other. Meet: leaves as soon
  // as the connection is made, and takes nothing of UCX's own handshake with it. Bind: leaves
  // behind that handshake. REQUIRES: Connect was OK.
  void Meet();
  void Bind();
  int greetings() const { return greetings_; }  // of either kind, that have come

  // REQUIRES: Connect was OK. After a failure sends end with an error in the next Progress.
  void Send(std::span<const std::byte> header, std::span<const MemorySpan> pieces, DoneFn done);

  // Lets UCX work, then runs due `done` calls and, once `deliver` is given, hands over messages in
  // order. Returns whether anything happened. Nothing runs inside a UCX callback.
  bool Progress(const MessageFn* deliver);
  // Not OK once the endpoint is broken.
  const absl::Status& failure() const { return failure_; }

  // True when it is safe to sleep until event_fd() is readable.
  bool Arm();
  int event_fd() const { return event_fd_; }

 private:
  friend class UcxPayload;
  // A buffer that is used again: fresh memory would cost a page fault every 4 KiB.
  struct Staging {
    std::unique_ptr<std::byte[]> data;
    size_t capacity_bytes = 0;
  };
  // A send or a receive. UCX holds a pointer to it until its callback has run.
  struct Operation {
    std::string header;               // sends
    MemorySpan payload;               // the caller's memory, or `staging`
    Staging staging;                  // for pieces that UCX would move one by one
    std::vector<MemorySpan> scatter;  // receives: where `staging` goes in the end
    DoneFn done;
    UcxEndpoint* endpoint = nullptr;
    std::list<std::unique_ptr<Operation>>::iterator self;
    absl::Status status;
  };
  struct Arrival {
    std::string header;
    std::string eager;           // the payload of a small message
    void* rendezvous = nullptr;  // UCX's descriptor of a large one
    size_t length_bytes = 0;
  };
  // Lets payloads outlive the endpoint: null once it is destroyed.
  struct Handle {
    UcxEndpoint* endpoint = nullptr;
  };

  UcxEndpoint() = default;
  static ucs_status_t OnActiveMessage(void* self, const void* header, size_t header_bytes,
                                      void* data, size_t length_bytes,
                                      const ucp_am_recv_param_t* param);
  static ucs_status_t OnGreeting(void* self, const void*, size_t, void*, size_t,
                                 const ucp_am_recv_param_t*);
  static void OnSendDone(void* request, ucs_status_t status, void* operation);
  static void OnReceiveDone(void* request, ucs_status_t status, size_t length, void* operation);
  static void OnError(void* self, ucp_ep_h endpoint, ucs_status_t status);
  absl::Status SetHandler(unsigned message_id, ucp_am_recv_callback_t callback);
  bool TryMeet();  // returns whether it has left
  void Drain();
  Staging TakeStaging(size_t length_bytes);
  void GiveStaging(Staging staging);
  Operation* AddOperation(DoneFn done);
  void PostSend(Operation* operation);
  void Receive(void* rendezvous, std::span<const MemorySpan> pieces, DoneFn done);
  void Refuse(void* rendezvous);
  void Finished(Operation* operation, absl::Status status);
  void Started(Operation* operation, ucs_status_ptr_t request);
  void Deliver(Arrival& arrival, const MessageFn& deliver);

  const UcxContext* context_ = nullptr;
  TransportChoice kind_ = TransportChoice::kTcp;
  ucp_worker_h worker_ = nullptr;
  ucp_ep_h endpoint_ = nullptr;
  int event_fd_ = -1;
  bool meeting_due_ = false;  // Meet has not left yet
  int greetings_ = 0;
  absl::Status failure_;
  uint64_t next_sent_ = 0;  // sequence numbers of messages
  uint64_t next_expected_ = 0;
  std::list<std::unique_ptr<Operation>> operations_;
  std::vector<Operation*> finished_;
  std::deque<Arrival> arrivals_;
  std::vector<Staging> free_staging_;
  std::shared_ptr<Handle> handle_ = std::make_shared<Handle>();  // shared with payloads
};

}  // namespace baton
