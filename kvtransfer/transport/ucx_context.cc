#include "kvtransfer/transport/ucx_context.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <ucs/debug/log_def.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {
namespace {

const char* TransportsOf(TransportChoice kind) {
  switch (kind) {
    case TransportChoice::kShm:
      return "posix,sysv,cma";
    case TransportChoice::kRdma:
      return "rc,ud";
    default:
      return "tcp";
  }
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
    {"sock.c", UCS_LOG_LEVEL_ERROR, "connect("},
    {"tcp_ep.c", UCS_LOG_LEVEL_ERROR, "try to increase"},
    {"mm_ep.c", UCS_LOG_LEVEL_ERROR, "mm ep failed to connect"},
    {"mm_sysv.c", UCS_LOG_LEVEL_ERROR, "shmat("},
};

ucs_log_func_rc_t DropNoise(const char* file, unsigned, const char*, ucs_log_level_t level,
                            const ucs_log_component_config_t* component, const char* format,
                            va_list) {
  const char* slash = std::strrchr(file, '/');
  const std::string_view name = slash == nullptr ? file : slash + 1;
  const bool wanted = component != nullptr && component->log_level >= UCS_LOG_LEVEL_DEBUG;
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

absl::Status Configure(ucp_config_t* config, TransportChoice kind, const std::string& device) {
  RETURN_IF_ERROR(Modify(config, "TLS", TransportsOf(kind)));
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

}  // namespace

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
                                                               const std::string& device) {
  BATON_CHECK(kind != TransportChoice::kAuto);
  if (kind == TransportChoice::kRdma && !HasRdmaDevices()) {
    return absl::UnavailableError(
        absl::StrCat("this machine has no RDMA device (", AdviceFor(kind), ")"));
  }
  static std::once_flag log_handler_once;  // UCX's log is one per process, and so is this
  std::call_once(log_handler_once, [] { ucs_log_push_handler(&DropNoise); });
  ucp_config_t* config = nullptr;
  if (const ucs_status_t status = ucp_config_read(nullptr, nullptr, &config); status != UCS_OK) {
    return UcxError("UCX configuration", status);
  }
  const absl::Status configured = Configure(config, kind, device);
  ucp_params_t params = {};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.estimated_num_eps = 1;
  ucp_context_h context = nullptr;
  const ucs_status_t status = configured.ok() ? ucp_init(&params, config, &context) : UCS_OK;
  ucp_config_release(config);
  RETURN_IF_ERROR(configured);
  if (status != UCS_OK) {
    return UcxError(absl::StrCat("UCX has no ", View(TransportChoiceName(kind)),
                                 " transport here (", AdviceFor(kind), ")"),
                    status);
  }
  return std::unique_ptr<UcxContext>(new UcxContext(context, kind));
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
