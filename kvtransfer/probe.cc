#include "kvtransfer/probe.h"

#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "common/check.h"
#include "common/strings.h"
#include "kvtransfer/stream_measure.h"
#include "kvtransfer/transport/machine_id.h"

namespace baton {
namespace {

absl::StatusOr<StreamResult> Measure(TransportFactory& factory, const Clock& clock) {
  const StreamShape shape;
  PeerAddress address;
  absl::Notification listening;
  absl::Status received;
  std::thread receiver([&] {
    auto transport = factory.Create();
    received = transport.ok() ? ReceiveStreams(**transport, "127.0.0.1", shape, clock,
                                               [&](const PeerAddress& at) {
                                                 address = at;
                                                 listening.Notify();
                                               })
                              : transport.status();
    if (!listening.HasBeenNotified()) listening.Notify();
  });
  listening.WaitForNotification();
  absl::StatusOr<StreamResult> result = absl::UnavailableError("the receiver did not listen");
  if (address.port != 0) {
    auto transport = factory.Create();
    result = transport.ok() ? SendStreams(**transport, address, shape, clock)
                            : absl::StatusOr<StreamResult>(transport.status());
  }
  receiver.join();
  if (address.port == 0) return received;
  return result;
}

TransportProbe Probe(TransportChoice kind, const Clock& clock) {
  TransportProbe probe;
  probe.kind = kind;
  auto factory = MakeUcxTransportFactory({kind, LocalMachineId()});
  const absl::StatusOr<StreamResult> result =
      factory.ok() ? Measure(**factory, clock) : absl::StatusOr<StreamResult>(factory.status());
  probe.usable = result.ok();
  if (result.ok()) {
    probe.gigabytes_per_second = result->gigabytes_per_second;
  } else {
    probe.problem = std::string(View(result.status().message()));
  }
  return probe;
}

}  // namespace

std::vector<TransportProbe> ProbeTransports(const Clock& clock) {
  std::vector<TransportProbe> probes;
  for (const TransportChoice kind :
       {TransportChoice::kShm, TransportChoice::kTcp, TransportChoice::kRdma}) {
    probes.push_back(Probe(kind, clock));
  }
  return probes;
}

}  // namespace baton
