#include "tests/conformance/transport_fixture.h"

#include "kvtransfer/transport/fault_transport.h"
#include "kvtransfer/transport/loopback_transport.h"
#include "kvtransfer/transport/machine_id.h"
#include "kvtransfer/transport/ucx_transport.h"

namespace baton::testing {

Bytes Pattern(size_t length_bytes, uint32_t seed) {
  Bytes bytes(length_bytes);
  uint32_t state = seed * 2654435761u + 1;
  for (std::byte& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

void TransportTest::SetUp() {
  const std::string& name = GetParam();
  if (name == "loopback" || name == "fault") {
    factory_ = MakeLoopbackFactory(MakeLoopbackHub());
  } else {
    auto ucx = MakeUcxTransportFactory({ParseTransportChoice(name).value(), LocalMachineId()});
    ASSERT_TRUE(ucx.ok()) << ucx.status();
    factory_ = *std::move(ucx);
  }
  if (name == "fault") {
    inner_ = std::move(factory_);
    factory_ = MakeFaultFactory(*inner_, {}, 1);
  }
  here_ = factory_->Create().value();
  there_ = factory_->Create().value();
  auto address = there_->Listen("127.0.0.1", 0, [this](std::unique_ptr<Connection> connection) {
    accepted_.push_back(std::make_unique<End>());
    accepted_.back()->connection = std::move(connection);
    return accepted_.back().get();
  });
  ASSERT_TRUE(address.ok()) << address.status();
  address_ = *address;
}

INSTANTIATE_TEST_SUITE_P(EveryBackend, TransportTest,
                         ::testing::Values("loopback", "fault", "tcp", "shm"),
                         [](const auto& param) { return param.param; });

}  // namespace baton::testing
