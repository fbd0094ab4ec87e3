#include "engine/kernels/isa.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"

namespace baton {

std::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512-bf16";
  }
  return "unknown";
}

absl::StatusOr<Isa> BestIsa() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    return absl::FailedPreconditionError(
        "this CPU has no AVX2 with FMA, which the CPU kernels need at least");
  }
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512) return Isa::kAvx2;
  // Every CPU so far that has the one has the other.
  const bool bf16 = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  return bf16 ? Isa::kAvx512Bf16 : Isa::kAvx512;
}

absl::StatusOr<Isa> SelectIsa(std::string_view name) {
  ASSIGN_OR_RETURN(const Isa best, BestIsa());
  if (name.empty()) return best;
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    if (name != IsaName(isa)) continue;
    if (isa > best) {
      return absl::FailedPreconditionError(absl::StrCat("isa ", View(name),
                                                        " was asked for, but this CPU has ",
                                                        View(IsaName(best)), " at best"));
    }
    return isa;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("isa ", View(name), " is unknown; allowed: avx2, avx512, avx512-bf16"));
}

}  // namespace baton
