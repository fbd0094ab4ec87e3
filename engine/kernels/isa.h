// Which instruction set the CPU kernels use.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"

namespace baton {

// In rising order: a CPU that has one has those before it.
enum class Isa { kAvx2, kAvx512, kAvx512Bf16 };

std::string_view IsaName(Isa isa);  // "avx2", "avx512", "avx512-bf16"

// The best that this CPU has. FAILED_PRECONDITION: not even AVX2 with FMA.
absl::StatusOr<Isa> BestIsa();

// `name` empty: BestIsa(). INVALID_ARGUMENT: no such name. FAILED_PRECONDITION: this CPU lacks it.
absl::StatusOr<Isa> SelectIsa(std::string_view name);

}  // namespace baton
