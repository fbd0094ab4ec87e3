// setp: of floating point, "lt" is false where one is a NaN, "ltu" true.
#include <cmath>
#include <functional>

#include "tests/support/ptx/opcodes.h"
#include "tests/support/ptx/thread.h"

namespace baton::ptx {

namespace {

template <typename T, typename Compare>
void RunOrdered(Thread& thread, const Instruction& instruction) {
  const T x = Get<T>(thread, instruction, 1);
  const T y = Get<T>(thread, instruction, 2);
  bool holds = Compare{}(x, y);
  if constexpr (std::is_floating_point_v<T>) {
    holds = holds && !std::isnan(x) && !std::isnan(y);
  }
  Set<bool>(thread, instruction, 0, holds);
}
template <typename T, typename Compare>
void RunUnordered(Thread& thread, const Instruction& instruction) {
  const T x = Get<T>(thread, instruction, 1);
  const T y = Get<T>(thread, instruction, 2);
  Set<bool>(thread, instruction, 0, std::isnan(x) || std::isnan(y) || Compare{}(x, y));
}
template <typename T, bool wants_nan>
void RunIsNan(Thread& thread, const Instruction& instruction) {
  const bool nan =
      std::isnan(Get<T>(thread, instruction, 1)) || std::isnan(Get<T>(thread, instruction, 2));
  Set<bool>(thread, instruction, 0, nan == wants_nan);
}

template <typename T>
void AddOrdered(Opcodes& opcodes, const std::string& type) {
  opcodes.Add("setp.eq." + type, &RunOrdered<T, std::equal_to<T>>);
  opcodes.Add("setp.ne." + type, &RunOrdered<T, std::not_equal_to<T>>);
  opcodes.Add("setp.lt." + type, &RunOrdered<T, std::less<T>>);
  opcodes.Add("setp.le." + type, &RunOrdered<T, std::less_equal<T>>);
  opcodes.Add("setp.gt." + type, &RunOrdered<T, std::greater<T>>);
  opcodes.Add("setp.ge." + type, &RunOrdered<T, std::greater_equal<T>>);
}
template <typename T>
void AddUnordered(Opcodes& opcodes, const std::string& type) {
  opcodes.Add("setp.equ." + type, &RunUnordered<T, std::equal_to<T>>);
  opcodes.Add("setp.neu." + type, &RunUnordered<T, std::not_equal_to<T>>);
  opcodes.Add("setp.ltu." + type, &RunUnordered<T, std::less<T>>);
  opcodes.Add("setp.leu." + type, &RunUnordered<T, std::less_equal<T>>);
  opcodes.Add("setp.gtu." + type, &RunUnordered<T, std::greater<T>>);
  opcodes.Add("setp.geu." + type, &RunUnordered<T, std::greater_equal<T>>);
  opcodes.Add("setp.nan." + type, &RunIsNan<T, true>);
  opcodes.Add("setp.num." + type, &RunIsNan<T, false>);
}

}  // namespace

void AddComparisons(Opcodes& opcodes) {
  AddOrdered<int16_t>(opcodes, "s16");
  AddOrdered<uint16_t>(opcodes, "u16");
  AddOrdered<uint16_t>(opcodes, "b16");
  AddOrdered<int32_t>(opcodes, "s32");
  AddOrdered<uint32_t>(opcodes, "u32");
  AddOrdered<uint32_t>(opcodes, "b32");
  AddOrdered<int64_t>(opcodes, "s64");
  AddOrdered<uint64_t>(opcodes, "u64");
  AddOrdered<uint64_t>(opcodes, "b64");
  AddOrdered<float>(opcodes, "f32");
  AddOrdered<double>(opcodes, "f64");
  AddUnordered<float>(opcodes, "f32");
  AddUnordered<double>(opcodes, "f64");
}

}  // namespace baton::ptx
