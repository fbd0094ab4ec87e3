// The bounds of every request field, shared by the HTTP and gRPC fronts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "router/front/field_error.h"

namespace baton {

struct NumberRange {
  double min = 0;
  double max = 0;
  bool min_open = false;  // the minimum itself is not allowed
};

struct IntRange {
  int64_t min = 0;
  int64_t max = 0;
};

inline constexpr NumberRange kTemperatureRange{0.0, 2.0};
inline constexpr NumberRange kTopPRange{0.0, 1.0, /*min_open=*/true};
// Numbers from open ranges may be too small for a float, or for a worker. This one means the same.
inline constexpr float kSmallestPositive = 1e-6f;
inline constexpr NumberRange kMinPRange{0.0, 1.0};
inline constexpr NumberRange kPenaltyRange{-2.0, 2.0};  // presence and frequency
inline constexpr NumberRange kRepetitionPenaltyRange{0.0, 10.0, /*min_open=*/true};
inline constexpr NumberRange kLogitBiasRange{-100.0, 100.0};
inline constexpr NumberRange kSloMsRange{0.0, 3.6e6, /*min_open=*/true};
inline constexpr IntRange kTopKRange{-1, INT32_MAX};  // -1 and 0 switch it off
inline constexpr IntRange kLogprobsRange{0, 20};
inline constexpr IntRange kPriorityRange{INT32_MIN, INT32_MAX};

inline constexpr int32_t kDefaultMaxTokens = 16;
inline constexpr size_t kMaxLogitBiasEntries = 300;
inline constexpr size_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopBytes = 1024;
inline constexpr size_t kMaxStopTokenIds = 256;
inline constexpr size_t kMaxNameBytes = 256;  // model, request id, user, SLO class, salt
inline constexpr size_t kMaxMessages = 4096;

// What an operator may change.
struct RequestLimits {
  int32_t max_samples = 128;  // n
  int32_t max_prompts = 128;  // prompts in one completions call
  int32_t max_choices = 256;  // prompts times n
  // The names that a request may choose its SLO class from.
  std::vector<std::string> slo_classes = {"default"};
};

// nullopt when `value` lies in `range`; else an error that names the limits. NaN never fits.
std::optional<FieldError> CheckRange(std::string_view param, double value,
                                     const NumberRange& range);
std::optional<FieldError> CheckRange(std::string_view param, int64_t value, const IntRange& range);

// nullopt for an empty name (the default class) and a known one; else an error with the list.
std::optional<FieldError> CheckSloClass(std::string_view param, std::string_view name,
                                        const RequestLimits& limits);

// Who says to have sent a request.
struct CallerNames {
  std::string_view tenant;         // of the API key; empty: nobody asked for one
  std::string_view authorization;  // as it came; counts where no key is asked for
  std::string_view user;           // as the request names it
  std::string_view cache_salt;
};

// Whose share of the cluster a request counts against: the first of these that is given, hashed.
// 0: nobody in particular.
uint64_t TenantOf(const CallerNames& caller);

// Prefix-cache entries of different salts never match: each tenant has entries of its own, and
// within them each cache_salt. 0: none, when neither is given.
uint64_t CacheSaltOf(const CallerNames& caller);

}  // namespace baton
