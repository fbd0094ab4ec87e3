// What rank 0 of a tensor-parallel group and the others tell one another. Bytes that decode are the
// only ones that encode to the same message, and its views lie inside of it.
#include <cstdint>
#include <string>
#include <variant>

#include "common/check.h"
#include "engine/runtime/rank_message.h"

namespace baton {
namespace {

std::string EncodeAgain(const RankRoom&) { return EncodeRoom(); }
std::string EncodeAgain(const RankPool& pool) { return EncodePool(pool.num_blocks); }
std::string EncodeAgain(const RankWarmUp& warm_up) { return EncodeWarmUp(warm_up.max_sequences); }
std::string EncodeAgain(const RankCopies& copies) { return EncodeCopies(copies.copies); }
std::string EncodeAgain(const RankForward& forward) {
  const std::vector<ForwardSequence> batch = forward.Batch();
  size_t tokens = 0;
  size_t blocks = 0;
  for (const ForwardSequence& sequence : batch) {
    tokens += sequence.tokens.size();
    blocks += sequence.block_table.size();
  }
  BATON_CHECK(tokens == forward.tokens.size() && blocks == forward.blocks.size());
  return EncodeForward(batch);
}

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;
  const std::string_view frame(reinterpret_cast<const char*>(data), size);
  const auto answer = DecodeRankAnswer(frame);
  if (answer.ok()) BATON_CHECK(EncodeAnswer(answer) == frame) << "another answer";
  const auto message = DecodeRankMessage(frame);
  if (!message.ok()) return 0;
  const std::string again =
      std::visit([](const auto& what) { return EncodeAgain(what); }, *message);
  BATON_CHECK(again == frame) << "another message of " << again.size() << " bytes";
  return 0;
}
