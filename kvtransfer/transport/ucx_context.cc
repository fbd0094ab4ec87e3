#include "kvtransfer/transport/ucx_context.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <ucs/debug/log_def.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {
namespace {

constexpr char kCudaCopy[] = "cuda_copy";
constexpr char kCudaIpc[] = "cuda_ipc";
constexpr char kGdrCopy[] = "gdr_copy";

std::string TransportsOf(TransportChoice kind, const UcxCudaTransports& cuda) {
  std::string names = "tcp";
  if (kind == TransportChoice::kShm) names = cuda.copy ? "posix,sysv" : "posix,sysv,cma";
  if (kind == TransportChoice::kRdma) names = "rc,ud";
  const auto add = [&](const char* name) { absl::StrAppend(&names, ",", name); };
  if (cuda.copy) add(kCudaCopy);
  if (cuda.ipc && kind == TransportChoice::kShm) add(kCudaIpc);
  if (cuda.gdr && kind == TransportChoice::kRdma) add(kGdrCopy);
  return names;
}

// How to get what is missing.
const char* AdviceFor(TransportChoice kind) {
  switch (kind) {
    case TransportChoice::kShm:
      return "mount a writable /dev/shm";
    case TransportChoice::kRdma:
      return "install the RDMA driver and a UCX with verbs, or set kv_transport to auto";
    default:
      return "bring up a network interface";
  }
}

// A connection's share of a worker, an endpoint and its accepted counterpart: 9 over TCP, 8 over
// shared memory; the rest is to spare.
constexpr int kMinFreeDescriptors = 32;

// Lines of UCX that are not news:
// - It warns about every request that is open when its worker is destroyed. To us that is not an
//   accident but the way to end a receive whose sender is gone.
//   UCX 1.22 has a line for each piece of memory of such a request besides.
// - It reports a peer that cannot be reached. Our connection says so itself, with what follows.
// What goes wrong while a context or worker is set up comes from other lines, and stays.
struct Noise {
  const char* file;
  ucs_log_level_t level;
  const char* format;  // how UCX's format string begins; empty: any
};
constexpr Noise kNoise[] = {
    {"mpool.c", UCS_LOG_LEVEL_WARN, ""},
    {"callbackq.c", UCS_LOG_LEVEL_WARN, ""},
    {"rcache.c", UCS_LOG_LEVEL_WARN, "%s: %s region"},
    {"sock.c", UCS_LOG_LEVEL_ERROR, "connect("},
    {"tcp_ep.c", UCS_LOG_LEVEL_ERROR, "try to increase"},
    {"mm_ep.c", UCS_LOG_LEVEL_ERROR, "mm ep failed to connect"},
    {"mm_sysv.c", UCS_LOG_LEVEL_ERROR, "shmat("},
};

// While this thread only asks what there is.
thread_local bool asking = false;

ucs_log_func_rc_t DropNoise(const char* file, unsigned, const char*, ucs_log_level_t level,
                            const ucs_log_component_config_t* component, const char* format,
                            va_list) {
  const char* slash = std::strrchr(file, '/');
  const std::string_view name = slash == nullptr ? file : slash + 1;
  const bool wanted = component != nullptr && component->log_level >= UCS_LOG_LEVEL_DEBUG;
  if (asking && !wanted) return UCS_LOG_FUNC_RC_STOP;
  for (const Noise& noise : kNoise) {
    if (wanted || name != noise.file || level != noise.level) continue;
    if (std::string_view(format).starts_with(noise.format)) return UCS_LOG_FUNC_RC_STOP;
  }
  return UCS_LOG_FUNC_RC_CONTINUE;
}

absl::Status Modify(ucp_config_t* config, const char* name, const std::string& value) {
  const ucs_status_t status = ucp_config_modify(config, name, value.c_str());
  if (status == UCS_OK) return absl::OkStatus();
  return UcxError(absl::StrCat("UCX does not take ", name, "=", value), status);
}

absl::Status Configure(ucp_config_t* config, TransportChoice kind, const std::string& device,
                       const UcxCudaTransports& cuda) {
  RETURN_IF_ERROR(Modify(config, "TLS", TransportsOf(kind, cuda)));
  // Each payload says which memory it is in: nothing is to be looked up, and no call of CUDA's to
  // be watched.
  if (cuda.copy) RETURN_IF_ERROR(Modify(config, "MEMTYPE_CACHE", "n"));
  if (kind == TransportChoice::kShm) {
    // The receiver reads; the sender must not be able to write into a block whose receive the
    // receiver has already given up (H2).
    RETURN_IF_ERROR(Modify(config, "RNDV_SCHEME", "get_zcopy"));
  } else if (kind == TransportChoice::kTcp) {
    // The data comes as messages, which the receiver places; no address crosses the wire.
    RETURN_IF_ERROR(Modify(config, "RNDV_SCHEME", "am"));
  }
  if (!device.empty()) RETURN_IF_ERROR(Modify(config, "NET_DEVICES", device));
  return absl::OkStatus();
}

void HandleLog() {
  static std::once_flag once;  // UCX's log is one per process, and so is this
  std::call_once(once, [] { ucs_log_push_handler(&DropNoise); });
}

// Whether UCX can be set up so; `configure` gives a configuration its settings.
absl::StatusOr<ucp_context_h> Init(const std::function<absl::Status(ucp_config_t*)>& configure,
                                   absl::string_view what) {
  HandleLog();
  ucp_config_t* config = nullptr;
  if (const ucs_status_t status = ucp_config_read(nullptr, nullptr, &config); status != UCS_OK) {
    return UcxError("UCX configuration", status);
  }
  const absl::Status configured = configure(config);
  ucp_params_t params = {};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.estimated_num_eps = 1;
  ucp_context_h context = nullptr;
  const ucs_status_t status = configured.ok() ? ucp_init(&params, config, &context) : UCS_OK;
  ucp_config_release(config);
  RETURN_IF_ERROR(configured);
  if (status != UCS_OK) return UcxError({what.data(), what.size()}, status);
  return context;
}

bool ReachesCuda(ucp_context_h context) {
  ucp_context_attr_t attributes = {};
  attributes.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES;
  return ucp_context_query(context, &attributes) == UCS_OK &&
         ((attributes.memory_types >> UCS_MEMORY_TYPE_CUDA) & 1) != 0;
}

// UCX has a list of names only to complain of what is not in it, so each is tried.
// A context of one alone can be made where it has a device; which memory it takes is for `fits`.
bool Has(const char* transport, absl::FunctionRef<bool(ucp_context_h)> fits) {
  asking = true;
  const auto configure = [&](ucp_config_t* config) {
    RETURN_IF_ERROR(Modify(config, "MEMTYPE_CACHE", "n"));
    return Modify(config, "TLS", transport);
  };
  const absl::StatusOr<ucp_context_h> context = Init(configure, transport);
  const bool has = context.ok() && fits(*context);
  if (context.ok()) ucp_cleanup(*context);
  asking = false;
  return has;
}

std::string Dotted(unsigned major, unsigned minor) { return absl::StrCat(major, ".", minor); }

}  // namespace

UcxCudaTransports FindUcxCudaTransports() {
  // A context tells of memory that one of its transports recognises or allocates: cuda_copy does,
  // the others move it only.
  const auto any = [](ucp_context_h) { return true; };
  UcxCudaTransports found{.copy = Has(kCudaCopy, ReachesCuda)};
  found.ipc = found.copy && Has(kCudaIpc, any);
  found.gdr = found.copy && Has(kGdrCopy, any);
  return found;
}

std::string UcxVersion() {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  ucp_get_version(&major, &minor, &release);
  return absl::StrCat(Dotted(major, minor), ".", release);
}

std::string UcxBuildVersion() { return Dotted(UCP_API_MAJOR, UCP_API_MINOR); }

bool HasRdmaDevices() {
  std::error_code error;
  return !std::filesystem::is_empty("/sys/class/infiniband", error) && !error;
}

absl::Status UcxError(std::string_view what, ucs_status_t status) {
  return absl::UnavailableError(absl::StrCat(View(what), ": ", ucs_status_string(status)));
}

absl::Status CheckDescriptorRoom() {
  int taken[kMinFreeDescriptors];
  int count = 0;
  for (; count < kMinFreeDescriptors; ++count) {
    taken[count] = count == 0 ? eventfd(0, EFD_CLOEXEC) : fcntl(taken[0], F_DUPFD_CLOEXEC, 0);
    if (taken[count] < 0) break;
  }
  for (int i = 0; i < count; ++i) close(taken[i]);
  if (count == kMinFreeDescriptors) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("fewer than ", kMinFreeDescriptors,
                   " file descriptors are left for a KV connection (raise the limit: ulimit -n, "
                   "LimitNOFILE=)"));
}

absl::StatusOr<std::unique_ptr<UcxContext>> UcxContext::Create(TransportChoice kind,
                                                               const std::string& device,
                                                               const UcxCudaTransports& cuda) {
  BATON_CHECK(kind != TransportChoice::kAuto);
  if (kind == TransportChoice::kRdma && !HasRdmaDevices()) {
    return absl::UnavailableError(
        absl::StrCat("this machine has no RDMA device (", AdviceFor(kind), ")"));
  }
  ASSIGN_OR_RETURN(const ucp_context_h context,
                   Init([&](ucp_config_t* config) { return Configure(config, kind, device, cuda); },
                        absl::StrCat("UCX has no ", View(TransportChoiceName(kind)),
                                     " transport here (", AdviceFor(kind), ")")));
  return std::unique_ptr<UcxContext>(new UcxContext(context, kind, cuda.copy));
}

UcxContext::~UcxContext() {
  for (const Registered& registered : registered_) ucp_mem_unmap(context_, registered.handle);
  ucp_cleanup(context_);
}

absl::Status UcxContext::Register(const MemorySpan& memory) {
  BATON_CHECK(cuda_ && memory.kind == MemoryKind::kCuda) << cuda_;
  ucp_mem_map_params_t params = {};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
                      UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE;
  params.address = memory.data;
  params.length = memory.length_bytes;
  params.memory_type = UCS_MEMORY_TYPE_CUDA;
  Registered registered{.memory = memory};
  if (const ucs_status_t status = ucp_mem_map(context_, &params, &registered.handle);
      status != UCS_OK) {
    return UcxError(absl::StrCat("UCX does not register ", memory.length_bytes,
                                 " bytes of CUDA memory (kv.buffer_device cpu does without)"),
                    status);
  }
  registered_.push_back(registered);
  return absl::OkStatus();
}

void UcxContext::Describe(const MemorySpan& payload, ucp_request_param_t* param) const {
  if (!cuda_) return;
  param->op_attr_mask |= UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  param->memory_type = UCS_MEMORY_TYPE_HOST;
  if (payload.kind == MemoryKind::kHost) return;
  const auto holds = [&](const Registered& registered) {
    const std::byte* begin = registered.memory.data;
    return payload.data >= begin &&
           payload.data + payload.length_bytes <= begin + registered.memory.length_bytes;
  };
  const auto found = std::ranges::find_if(registered_, holds);
  BATON_CHECK(found != registered_.end()) << payload.length_bytes;
  param->op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
  param->memory_type = UCS_MEMORY_TYPE_CUDA;
  param->memh = found->handle;
}

std::string_view TransportChoiceName(TransportChoice choice) {
  switch (choice) {
    case TransportChoice::kAuto:
      return "auto";
    case TransportChoice::kShm:
      return "shm";
    case TransportChoice::kTcp:
      return "tcp";
    case TransportChoice::kRdma:
      return "rdma";
  }
  return "unknown";
}

absl::StatusOr<TransportChoice> ParseTransportChoice(std::string_view name) {
  for (const TransportChoice choice : {TransportChoice::kAuto, TransportChoice::kShm,
                                       TransportChoice::kTcp, TransportChoice::kRdma}) {
    if (name == TransportChoiceName(choice)) return choice;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("kv_transport is '", View(name), "', allowed are auto, shm, tcp and rdma"));
}

}  // namespace baton
