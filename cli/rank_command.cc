#include "cli/rank_command.h"

#include <unistd.h>

#include <string>
#include <utility>

#include "cli/child_process.h"
#include "cli/compute_device.h"
#include "cli/engine_loader.h"
#include "cli/rank_endpoint.h"
#include "cli/worker_settings.h"
#include "common/check.h"
#include "engine/parallel/rank_channel.h"
#include "worker/placement.h"

namespace baton {
namespace {

class RankCommand final : public Command {
 public:
  std::string name() const override { return "rank"; }
  std::string summary() const override {
    return "One more process of a worker with --tensor-parallel, which starts it";
  }

  void Describe(ConfigSchema& schema) override {
    AddEngineSettings(schema, &engine_);
    AddPlacementSettings(schema, &placement_);
    schema.AddInt("rank", &rank_, 1, kMaxRanks - 1, "This process's place in the group");
    schema.AddInt("group_fd", &group_fd_, -1, 1 << 20, "Descriptor of the group's memory");
    schema.AddString("rendezvous", &rendezvous_,
                     "Without one: directory by which the group finds together");
    schema.AddInt("channel_fd", &channel_fd_, -1, 1 << 20, "Descriptor of the socket to rank 0");
    schema.AddInt("kv_fd", &kv_fd_, -1, 1 << 20, "Descriptor of the memory for the KV cache");
    schema.AddInt("ready_fd", &ready_fd_, -1, 1 << 20, "Not used: the socket tells");
    AddLogSettings(schema, &log_);
  }

  absl::Status Validate() const override {
    if (channel_fd_ < 0 || kv_fd_ < 0 || rank_ >= engine_.tensor_parallel ||
        (group_fd_ < 0 && rendezvous_.empty())) {
      return absl::InvalidArgumentError(
          "this is started by `baton worker --tensor-parallel N`, not by hand");
    }
    return ValidateEngineSettings(engine_);
  }

  absl::StatusOr<int> Run() override {
    ASSIGN_OR_RETURN(const Placement placement,
                     ResolvePlacementOf(placement_, engine_.threads, IsSet("threads")));
    RETURN_IF_ERROR(ApplyPlacement(placement));
    ASSIGN_OR_RETURN(const absl::Duration spin,
                     RankSpinTime(engine_.tensor_parallel, placement.threads));
    const RankEndpoint endpoint{.rank = rank_,
                                .size = engine_.tensor_parallel,
                                .group_fd = group_fd_,
                                .rendezvous = rendezvous_,
                                .spin = spin,
                                .check_alive = [this] { return CheckOtherEnd(channel_fd_); }};
    ASSIGN_OR_RETURN(const ComputeDevice device, ParseComputeDevice(engine_.device));
    EngineOptions options = ToWorkerOptions(engine_).engine;
    ModelOptions& model = options.model;
    model.num_threads = placement.threads;
    model.pin_cpus = placement.pin_cpus;
    model.shard.rank = rank_;
    model.connect = [this, &endpoint] {
      auto joined = ConnectRank(endpoint);
      if (group_fd_ >= 0) close(std::exchange(group_fd_, -1));  // it is mapped, or of no use
      return joined;
    };
    RETURN_IF_ERROR(RankServerOf(device)(options, {.channel_fd = channel_fd_, .kv_fd = kv_fd_}));
    return 0;
  }

 private:
  EngineSettings engine_;
  PlacementFlags placement_;
  int32_t rank_ = 1;
  int32_t group_fd_ = -1;
  std::string rendezvous_;
  int32_t channel_fd_ = -1;
  int32_t kv_fd_ = -1;
  int32_t ready_fd_ = -1;
  LogSettings log_;
};

}  // namespace

std::unique_ptr<Command> MakeRankCommand() { return std::make_unique<RankCommand>(); }

}  // namespace baton
