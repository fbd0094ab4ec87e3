#include "engine/parallel/gloo_communicator.h"

#include <gloo/allgather.h>
#include <gloo/barrier.h>
#include <gloo/gather.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

#include <chrono>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/check.h"
#include "engine/parallel/sum_parts.h"

namespace baton {
namespace {

std::chrono::milliseconds Milliseconds(absl::Duration duration) {
  return std::chrono::milliseconds(absl::ToInt64Milliseconds(duration));
}

// Gloo reports by exceptions: they end here.
template <typename Operation>
absl::Status Guarded(const char* what, const Operation& operation) {
  try {
    operation();
    return absl::OkStatus();
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat("tensor parallelism: ", what, ": ", error.what()));
  }
}

// Waits for other ranks as long as it is told to and they live.
class WatchedStore final : public gloo::rendezvous::FileStore {
 public:
  explicit WatchedStore(const GlooOptions& options)
      : FileStore(options.rendezvous), options_(options) {}

  void wait(const std::vector<std::string>& keys) override {
    wait(keys, Milliseconds(options_.connect_timeout));
  }
  // The timeout is that of the options, whatever Gloo asks for.
  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& /*timeout*/) override {
    const absl::Time deadline = absl::Now() + options_.connect_timeout;
    for (;;) {
      try {
        return FileStore::wait(keys, kLook);
      } catch (const std::exception&) {
        if (absl::Now() > deadline) throw;
      }
      const absl::Status alive = options_.check_alive ? options_.check_alive() : absl::OkStatus();
      if (!alive.ok()) throw std::runtime_error(std::string(alive.message()));
    }
  }

 private:
  static constexpr std::chrono::milliseconds kLook{100};
  const GlooOptions& options_;
};

class GlooCommunicator final : public Communicator {
 public:
  explicit GlooCommunicator(std::shared_ptr<gloo::rendezvous::Context> context)
      : context_(std::move(context)) {}

  int32_t rank() const override { return context_->rank; }
  int32_t size() const override { return context_->size; }

  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    BATON_CHECK(all.size() == mine.size() * static_cast<size_t>(size())) << all.size();
    if (mine.empty()) return absl::OkStatus();
    return Guarded("all-gather", [&] {
      gloo::AllgatherOptions options(context_);
      options.setInput(Bytes(mine), mine.size());
      options.setOutput(Bytes(all), all.size());
      gloo::allgather(options);
    });
  }

  absl::Status Gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    BATON_CHECK(rank() != 0 || all.size() == mine.size() * static_cast<size_t>(size()));
    if (mine.empty()) return absl::OkStatus();
    return Guarded("gather", [&] {
      gloo::GatherOptions options(context_);
      options.setInput(Bytes(mine), mine.size());
      if (rank() == 0) options.setOutput(Bytes(all), all.size());
      options.setRoot(0);
      gloo::gather(options);
    });
  }

  absl::Status AllReduceSum(std::span<float> numbers) override {
    // Gloo's all-reduce adds each number in an order that depends on how many there are.
    gathered_.resize(numbers.size() * static_cast<size_t>(size()));
    RETURN_IF_ERROR(
        AllGather(std::as_bytes(numbers), std::as_writable_bytes(std::span(gathered_))));
    parts_.clear();
    for (int32_t of = 0; of < size(); ++of) {
      parts_.push_back(gathered_.data() + static_cast<size_t>(of) * numbers.size());
    }
    SumParts(parts_, numbers);
    return absl::OkStatus();
  }

 private:
  // Gloo asks for a type that it may write to even of what it only reads.
  static char* Bytes(std::span<const std::byte> bytes) {
    return reinterpret_cast<char*>(const_cast<std::byte*>(bytes.data()));
  }

  const std::shared_ptr<gloo::rendezvous::Context> context_;  // operations share it while they run
  std::vector<float> gathered_;      // [size, numbers]: scratch, as the next
  std::vector<const float*> parts_;  // [size]
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> ConnectGloo(const GlooOptions& options) {
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", options.rank, " of a group of ", options.size));
  }
  std::error_code ignored;
  if (!std::filesystem::is_directory(options.rendezvous, ignored)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rendezvous ", options.rendezvous, " is not a directory"));
  }
  auto context = std::make_shared<gloo::rendezvous::Context>(options.rank, options.size);
  RETURN_IF_ERROR(Guarded("connect", [&] {
    gloo::transport::tcp::attr address;
    address.hostname = options.host;
    WatchedStore store(options);
    auto device = gloo::transport::tcp::CreateDevice(address);
    context->setTimeout(Milliseconds(options.connect_timeout));
    context->connectFullMesh(store, device);
    // A rank may be through while others still connect to it: only from here on may it go.
    gloo::BarrierOptions all_connected(context);
    gloo::barrier(all_connected);
    context->setTimeout(Milliseconds(options.timeout));
  }));
  return std::make_unique<GlooCommunicator>(std::move(context));
}

}  // namespace baton
