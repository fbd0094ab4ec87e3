#include "engine/model/shard_exchange.h"

#include <cstring>
#include <span>
#include <utility>

#include "common/check.h"

namespace baton {

ShardExchange::ShardExchange(const ModelShard& shard, std::unique_ptr<Communicator> communicator)
    : shard_(shard), communicator_(std::move(communicator)) {
  BATON_CHECK(communicator_->size() == shard.size && communicator_->rank() == shard.rank)
      << communicator_->rank() << " of " << communicator_->size();
}

std::span<const std::byte> ShardExchange::Padded(const Columns& columns) {
  const auto rows = static_cast<size_t>(columns.rows);
  const auto bytes = static_cast<size_t>(columns.number_bytes);
  const size_t mine = static_cast<size_t>(shard_.Of(columns.width).count()) * bytes;
  const size_t widest = static_cast<size_t>(shard_.Widest(columns.width)) * bytes;
  const auto* source = static_cast<const std::byte*>(columns.mine);
  if (mine == widest) return {source, rows * widest};
  padded_.Reserve(rows * widest);
  for (size_t row = 0; row < rows; ++row) {
    std::memcpy(padded_.data() + row * widest, source + row * mine, mine);
    std::memset(padded_.data() + row * widest + mine, 0, widest - mine);
  }
  return {padded_.data(), rows * widest};
}

void ShardExchange::Join(const Columns& columns, bool at_first, void* output) {
  if (!status_.ok() || columns.rows == 0) return;
  const std::span<const std::byte> mine = Padded(columns);
  const auto size = static_cast<size_t>(shard_.size);
  gathered_.Reserve(mine.size() * size);
  const std::span<std::byte> all(gathered_.data(), mine.size() * size);
  status_ = at_first ? communicator_->Gather(mine, all) : communicator_->AllGather(mine, all);
  if (!status_.ok() || (at_first && shard_.rank != 0)) return;
  const auto rows = static_cast<size_t>(columns.rows);
  const auto bytes = static_cast<size_t>(columns.number_bytes);
  const size_t row_bytes = static_cast<size_t>(columns.width) * bytes;
  const size_t widest = mine.size() / rows;
  for (int32_t rank = 0; rank < shard_.size; ++rank) {
    const ShardRange range = shard_.Of(columns.width, rank);
    const std::byte* source = all.data() + static_cast<size_t>(rank) * mine.size();
    std::byte* target = static_cast<std::byte*>(output) + static_cast<size_t>(range.begin) * bytes;
    for (size_t row = 0; row < rows; ++row) {
      std::memcpy(target + row * row_bytes, source + row * widest,
                  static_cast<size_t>(range.count()) * bytes);
    }
  }
}

void ShardExchange::Join(const Columns& columns, void* output) { Join(columns, false, output); }

void ShardExchange::JoinAtFirst(const Columns& columns, void* output) {
  Join(columns, true, output);
}

void ShardExchange::Sum(float* numbers, size_t count) {
  if (status_.ok()) status_ = communicator_->AllReduceSum({numbers, count});
}

}  // namespace baton
