#include "engine/model/cuda/nccl_communicator.h"

#include <dlfcn.h>
#include <nccl.h>

#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton {
namespace {

// What we call of the library. It stays loaded.
struct Nccl {
  decltype(&ncclGetErrorString) get_error_string = nullptr;
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclCommInitRank) comm_init_rank = nullptr;
  decltype(&ncclCommAbort) comm_abort = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
  decltype(&ncclBroadcast) broadcast = nullptr;
};

absl::Status NotFound() {
  return absl::NotFoundError(
      absl::StrCat("tensor parallelism on GPUs needs NCCL: ", dlerror(),
                   "; install it (libnccl2), add its directory to LD_LIBRARY_PATH, or leave "
                   "tensor_parallel at 1"));
}

template <typename Function>
absl::Status Find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr ? absl::OkStatus() : NotFound();
}

absl::StatusOr<Nccl> LoadNccl(const std::string& name) {
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return NotFound();
  Nccl nccl;
  RETURN_IF_ERROR(Find(library, "ncclGetErrorString", &nccl.get_error_string));
  RETURN_IF_ERROR(Find(library, "ncclGetUniqueId", &nccl.get_unique_id));
  RETURN_IF_ERROR(Find(library, "ncclCommInitRank", &nccl.comm_init_rank));
  RETURN_IF_ERROR(Find(library, "ncclCommAbort", &nccl.comm_abort));
  RETURN_IF_ERROR(Find(library, "ncclAllReduce", &nccl.all_reduce));
  RETURN_IF_ERROR(Find(library, "ncclAllGather", &nccl.all_gather));
  RETURN_IF_ERROR(Find(library, "ncclBroadcast", &nccl.broadcast));
  return nccl;
}

absl::Status ToStatus(const Nccl& nccl, ncclResult_t result, const char* what) {
  if (result == ncclSuccess) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(what, ": NCCL: ", nccl.get_error_string(result)));
}

class NcclCommunicator final : public CudaCommunicator {
 public:
  NcclCommunicator(const Nccl& nccl, ncclComm_t group) : nccl_(nccl), group_(group) {}
  // Not ncclCommDestroy, which waits for all ranks: some may be gone.
  ~NcclCommunicator() override { nccl_.comm_abort(group_); }

  void AllReduceSum(const CudaContext& context, float* numbers, size_t count) override {
    if (count == 0) return;
    context.Note(ToStatus(
        nccl_,
        nccl_.all_reduce(numbers, numbers, count, ncclFloat32, ncclSum, group_, context.stream()),
        "all-reduce"));
  }

  void AllGather(const CudaContext& context, const float* mine, float* all, size_t count) override {
    if (count == 0) return;
    context.Note(ToStatus(nccl_,
                          nccl_.all_gather(mine, all, count, ncclFloat32, group_, context.stream()),
                          "all-gather"));
  }

  void Broadcast(const CudaContext& context, int32_t* numbers, size_t count) override {
    if (count == 0) return;
    context.Note(ToStatus(
        nccl_,
        nccl_.broadcast(numbers, numbers, count, ncclInt32, /*root=*/0, group_, context.stream()),
        "broadcast"));
  }

 private:
  const Nccl nccl_;
  const ncclComm_t group_;
};

}  // namespace

absl::Status CheckNccl(const std::string& library) { return LoadNccl(library).status(); }

absl::StatusOr<std::unique_ptr<CudaCommunicator>> ConnectNccl(const CudaContext& context,
                                                              std::unique_ptr<Communicator> ranks) {
  ASSIGN_OR_RETURN(const Nccl nccl, LoadNccl(kNcclLibrary));
  RETURN_IF_ERROR(context.MakeCurrent());
  ncclUniqueId id{};
  if (ranks->rank() == 0) RETURN_IF_ERROR(ToStatus(nccl, nccl.get_unique_id(&id), "unique id"));
  std::vector<ncclUniqueId> ids(static_cast<size_t>(ranks->size()));
  RETURN_IF_ERROR(
      ranks->AllGather(std::as_bytes(std::span(&id, 1)), std::as_writable_bytes(std::span(ids))));
  ncclComm_t group = nullptr;
  RETURN_IF_ERROR(
      ToStatus(nccl, nccl.comm_init_rank(&group, ranks->size(), ids[0], ranks->rank()), "join"));
  return std::make_unique<NcclCommunicator>(nccl, group);
}

}  // namespace baton
