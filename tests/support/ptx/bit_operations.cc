// Bits, selections and moves.
#include <bit>

#include "tests/support/ptx/opcodes.h"
#include "tests/support/ptx/thread.h"

namespace baton::ptx {

namespace {

struct And {
  template <typename T>
  T operator()(T x, T y) const {
    return static_cast<T>(x & y);
  }
};
struct Or {
  template <typename T>
  T operator()(T x, T y) const {
    return static_cast<T>(x | y);
  }
};
struct Xor {
  template <typename T>
  T operator()(T x, T y) const {
    return static_cast<T>(x ^ y);
  }
};

template <typename T, typename Op>
void RunBinary(Thread& thread, const Instruction& instruction) {
  Set<T>(thread, instruction, 0,
         Op{}(Get<T>(thread, instruction, 1), Get<T>(thread, instruction, 2)));
}
template <typename T>
void RunNot(Thread& thread, const Instruction& instruction) {
  const T value = Get<T>(thread, instruction, 1);
  if constexpr (std::is_same_v<T, bool>) {
    Set<bool>(thread, instruction, 0, !value);
  } else {
    Set<T>(thread, instruction, 0, static_cast<T>(~value));
  }
}
// By more than there is: everything is shifted out.
template <typename T>
void RunShiftLeft(Thread& thread, const Instruction& instruction) {
  const auto by = Get<uint32_t>(thread, instruction, 2);
  const T value = Get<T>(thread, instruction, 1);
  Set<T>(thread, instruction, 0, by < sizeof(T) * 8 ? static_cast<T>(uint64_t{value} << by) : T{0});
}
template <typename T>
void RunShiftRight(Thread& thread, const Instruction& instruction) {
  const auto by = Get<uint32_t>(thread, instruction, 2);
  const T value = Get<T>(thread, instruction, 1);
  const T out = value < 0 ? static_cast<T>(-1) : T{0};
  Set<T>(thread, instruction, 0, by < sizeof(T) * 8 ? static_cast<T>(value >> by) : out);
}

void RunPopulation(Thread& thread, const Instruction& instruction) {
  Set<uint32_t>(thread, instruction, 0,
                static_cast<uint32_t>(std::popcount(Get<uint32_t>(thread, instruction, 1))));
}
void RunLeadingZeros(Thread& thread, const Instruction& instruction) {
  Set<uint32_t>(thread, instruction, 0,
                static_cast<uint32_t>(std::countl_zero(Get<uint32_t>(thread, instruction, 1))));
}
void RunReverse(Thread& thread, const Instruction& instruction) {
  const auto value = Get<uint32_t>(thread, instruction, 1);
  uint32_t reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (value >> bit & 1u) << (31 - bit);
  Set<uint32_t>(thread, instruction, 0, reversed);
}
// How far the highest bit would have to be shifted to be bit 31; all ones: there is none.
void RunFindShift(Thread& thread, const Instruction& instruction) {
  const auto value = Get<uint32_t>(thread, instruction, 1);
  Set<uint32_t>(thread, instruction, 0,
                value == 0 ? ~0u : static_cast<uint32_t>(std::countl_zero(value)));
}
template <typename T>
void RunInsert(Thread& thread, const Instruction& instruction) {
  const T inserted = Get<T>(thread, instruction, 1);
  const T base = Get<T>(thread, instruction, 2);
  const uint32_t position = Get<uint32_t>(thread, instruction, 3) & 0xff;
  const uint32_t length = Get<uint32_t>(thread, instruction, 4) & 0xff;
  T result = base;
  for (uint32_t i = 0; i < length && position + i < sizeof(T) * 8; ++i) {
    const T bit = T{1} << (position + i);
    result = (inserted >> i & 1) != 0 ? result | bit : result & ~bit;
  }
  Set<T>(thread, instruction, 0, result);
}
// Bytes of a (0..3) and b (4..7), by four bits of the selector each; the highest of those bits:
// the byte's sign, eight times.
void RunPermute(Thread& thread, const Instruction& instruction) {
  const uint64_t bytes =
      uint64_t{Get<uint32_t>(thread, instruction, 2)} << 32 | Get<uint32_t>(thread, instruction, 1);
  const auto selector = Get<uint32_t>(thread, instruction, 3);
  uint32_t result = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t choice = selector >> 4 * i & 0xf;
    auto byte = static_cast<uint32_t>(bytes >> 8 * (choice & 7) & 0xff);
    if ((choice & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
    result |= byte << 8 * i;
  }
  Set<uint32_t>(thread, instruction, 0, result);
}

template <typename T>
void RunSelect(Thread& thread, const Instruction& instruction) {
  const bool first = Get<bool>(thread, instruction, 3);
  Set<T>(thread, instruction, 0, Get<T>(thread, instruction, first ? 1 : 2));
}
template <typename T>
void RunMove(Thread& thread, const Instruction& instruction) {
  Set<T>(thread, instruction, 0, Get<T>(thread, instruction, 1));
}
template <typename Whole, typename Part>
void RunPack(Thread& thread, const Instruction& instruction) {
  Set<Whole>(thread, instruction, 0,
             static_cast<Whole>(Get<Part>(thread, instruction, 1)) |
                 static_cast<Whole>(Get<Part>(thread, instruction, 2)) << sizeof(Part) * 8);
}
template <typename Whole, typename Part>
void RunUnpack(Thread& thread, const Instruction& instruction) {
  const auto whole = Get<Whole>(thread, instruction, 2);
  Set<Part>(thread, instruction, 0, static_cast<Part>(whole));
  Set<Part>(thread, instruction, 1, static_cast<Part>(whole >> sizeof(Part) * 8));
}

template <typename T>
void AddBits(Opcodes& opcodes, const std::string& type) {
  opcodes.Add("and." + type, &RunBinary<T, And>);
  opcodes.Add("or." + type, &RunBinary<T, Or>);
  opcodes.Add("xor." + type, &RunBinary<T, Xor>);
  opcodes.Add("not." + type, &RunNot<T>);
}
template <typename T>
void AddShifts(Opcodes& opcodes, const std::string& bits) {
  opcodes.Add("shl.b" + bits, &RunShiftLeft<T>);
  opcodes.Add("shr.b" + bits, &RunShiftRight<T>);
  opcodes.Add("shr.u" + bits, &RunShiftRight<T>);
  opcodes.Add("shr.s" + bits, &RunShiftRight<std::make_signed_t<T>>);
}
template <typename T>
void AddMoves(Opcodes& opcodes, const std::string& type) {
  opcodes.Add("mov." + type, &RunMove<T>);
  opcodes.Add("selp." + type, &RunSelect<T>);
}

}  // namespace

void AddBitOperations(Opcodes& opcodes) {
  AddBits<bool>(opcodes, "pred");
  AddBits<uint16_t>(opcodes, "b16");
  AddBits<uint32_t>(opcodes, "b32");
  AddBits<uint64_t>(opcodes, "b64");
  AddShifts<uint16_t>(opcodes, "16");
  AddShifts<uint32_t>(opcodes, "32");
  AddShifts<uint64_t>(opcodes, "64");
  opcodes.Add("popc.b32", &RunPopulation);
  opcodes.Add("clz.b32", &RunLeadingZeros);
  opcodes.Add("brev.b32", &RunReverse);
  opcodes.Add("bfind.shiftamt.u32", &RunFindShift);
  opcodes.Add("bfi.b32", &RunInsert<uint32_t>);
  opcodes.Add("bfi.b64", &RunInsert<uint64_t>);
  opcodes.Add("prmt.b32", &RunPermute);

  opcodes.Add("mov.pred", &RunMove<bool>);
  for (const char* sign : {"b", "u", "s"}) {
    AddMoves<uint16_t>(opcodes, sign + std::string("16"));
    AddMoves<uint32_t>(opcodes, sign + std::string("32"));
    AddMoves<uint64_t>(opcodes, sign + std::string("64"));
  }
  AddMoves<float>(opcodes, "f32");
  AddMoves<double>(opcodes, "f64");
  opcodes.Add("mov.b32 pack", &RunPack<uint32_t, uint16_t>);
  opcodes.Add("mov.b32 unpack", &RunUnpack<uint32_t, uint16_t>);
  opcodes.Add("mov.b64 pack", &RunPack<uint64_t, uint32_t>);
  opcodes.Add("mov.b64 unpack", &RunUnpack<uint64_t, uint32_t>);
}

}  // namespace baton::ptx
