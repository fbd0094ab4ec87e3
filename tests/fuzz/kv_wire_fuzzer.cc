// The headers of KV connections and the tickets in them. There is one encoding of each message:
// what decodes encodes to the same bytes.
#include <cstdint>
#include <string>
#include <variant>

#include "common/check.h"
#include "kvtransfer/core/wire.h"
#include "tests/fuzz/pieces.h"

namespace baton {
namespace {

void CheckTicket(std::string_view bytes) {
  const auto ticket = DecodeTicket(bytes);
  if (!ticket.ok()) return;
  BATON_CHECK(EncodeTicket(*ticket) == bytes);
  BATON_CHECK(ticket->first_block >= 0 && ticket->num_blocks >= 0);
  BATON_CHECK(int64_t{ticket->first_block} + ticket->num_blocks <= INT32_MAX);
}

struct Limits {
  void operator()(const HelloMessage& hello) const {
    BATON_CHECK(hello.worker_name.size() <= kMaxWorkerNameBytes) << hello.worker_name.size();
    BATON_CHECK(!hello.layout.ToString().empty());
  }
  void operator()(const TailMessage& tail) const {
    BATON_CHECK(tail.tail.first_tokens.size() <= size_t{kMaxHandoffSamples});
  }
  void operator()(const AbortMessage& abort) const {
    BATON_CHECK(!HandoffFailureName(abort.failure).empty());
  }
  void operator()(const GoodbyeMessage& goodbye) const {
    BATON_CHECK(goodbye.reason.size() <= kMaxGoodbyeBytes) << goodbye.reason.size();
  }
  template <typename Other>
  void operator()(const Other&) const {}
};

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  const std::string_view header = TextOf(data, size);
  CheckTicket(header);
  const auto message = DecodeMessage(header);
  if (!message.ok()) return 0;
  BATON_CHECK(EncodeMessage(*message) == header) << message->index();
  std::visit(Limits{}, *message);
  return 0;
}
