// Bytes that all connections together may hold.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace baton {

// Thread-safe; outlives its shares.
class ByteBudget {
 public:
  explicit ByteBudget(uint64_t limit) : limit_(limit) {}

  // What one holder has of it; given back when it is destroyed. Not thread-safe.
  class Share {
   public:
    explicit Share(ByteBudget& budget) : budget_(&budget) {}
    Share(Share&& other) noexcept
        : budget_(other.budget_), bytes_(std::exchange(other.bytes_, 0)) {}
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share() { budget_->used_ -= bytes_; }

    // False: more than is left; the share stays as it is. Less than it has is always granted.
    bool Resize(uint64_t bytes) {
      if (bytes > bytes_) {
        const uint64_t more = bytes - bytes_;
        if (budget_->used_.fetch_add(more) + more > budget_->limit_) {
          budget_->used_ -= more;
          return false;
        }
      } else {
        budget_->used_ -= bytes_ - bytes;
      }
      bytes_ = bytes;
      return true;
    }

   private:
    ByteBudget* budget_;
    uint64_t bytes_ = 0;
  };

  uint64_t used() const { return used_; }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_ = 0;
};

}  // namespace baton
