// Loads, stores, and atomic operations, which one thread does at a time as all else.
#include <algorithm>
#include <cstring>

#include "tests/support/ptx/memory_spaces.h"
#include "tests/support/ptx/opcodes.h"

namespace baton::ptx {

namespace {

template <Space space, typename T, uint32_t count>
void RunLoad(Thread& thread, const Instruction& instruction) {
  T values[count];
  std::memcpy(values,
              Locate<space>(thread, instruction, AddressAt(thread, instruction, count),
                            sizeof(values), /*writes=*/false),
              sizeof(values));
  for (uint32_t i = 0; i < count; ++i) Set<T>(thread, instruction, i, values[i]);
}

template <Space space, typename T, uint32_t count>
void RunStore(Thread& thread, const Instruction& instruction) {
  T values[count];
  for (uint32_t i = 0; i < count; ++i) values[i] = Get<T>(thread, instruction, 2 + i);
  std::memcpy(Locate<space>(thread, instruction, AddressAt(thread, instruction, 0), sizeof(values),
                            /*writes=*/true),
              values, sizeof(values));
}

template <Space space, typename T, uint32_t count>
void AddCount(Opcodes& opcodes, const std::string& name, const std::string& type) {
  const std::string vector = count == 1 ? "." : ".v" + std::to_string(count) + ".";
  for (const char* hint : {"", ".nc", ".ca", ".cg", ".cs", ".lu", ".cv"}) {
    opcodes.Add("ld" + name + hint + vector + type, &RunLoad<space, T, count>);
  }
  if (space == Space::kParam) return;
  for (const char* hint : {"", ".wb", ".cg", ".cs", ".wt"}) {
    opcodes.Add("st" + name + hint + vector + type, &RunStore<space, T, count>);
  }
}
template <Space space, typename T>
void AddType(Opcodes& opcodes, const std::string& name, const std::string& type) {
  AddCount<space, T, 1>(opcodes, name, type);
  AddCount<space, T, 2>(opcodes, name, type);
  if constexpr (sizeof(T) <= 4) AddCount<space, T, 4>(opcodes, name, type);
}
template <Space space>
void AddSpace(Opcodes& opcodes, const std::string& name) {
  for (const char* sign : {"b", "u"}) {
    AddType<space, uint8_t>(opcodes, name, sign + std::string("8"));
    AddType<space, uint16_t>(opcodes, name, sign + std::string("16"));
    AddType<space, uint32_t>(opcodes, name, sign + std::string("32"));
    AddType<space, uint64_t>(opcodes, name, sign + std::string("64"));
  }
  AddType<space, int8_t>(opcodes, name, "s8");
  AddType<space, int16_t>(opcodes, name, "s16");
  AddType<space, int32_t>(opcodes, name, "s32");
  AddType<space, int64_t>(opcodes, name, "s64");
  AddType<space, float>(opcodes, name, "f32");
  AddType<space, double>(opcodes, name, "f64");
}

struct Exchange {
  template <typename T>
  T operator()(T, T value) const {
    return value;
  }
};
struct Add {
  template <typename T>
  T operator()(T old, T value) const {
    return static_cast<T>(old + value);
  }
};
struct Minimum {
  template <typename T>
  T operator()(T old, T value) const {
    return std::min(old, value);
  }
};
struct Maximum {
  template <typename T>
  T operator()(T old, T value) const {
    return std::max(old, value);
  }
};
struct And {
  template <typename T>
  T operator()(T old, T value) const {
    return old & value;
  }
};
struct Or {
  template <typename T>
  T operator()(T old, T value) const {
    return old | value;
  }
};

// Operands: [the old one,] address, value.
template <Space space, typename T, typename Op, bool returns>
void RunAtomic(Thread& thread, const Instruction& instruction) {
  constexpr uint32_t kAddress = returns ? 1 : 0;
  std::byte* memory = Locate<space>(thread, instruction, AddressAt(thread, instruction, kAddress),
                                    sizeof(T), /*writes=*/true);
  T old;
  std::memcpy(&old, memory, sizeof(T));
  const T next = Op{}(old, Get<T>(thread, instruction, kAddress + 2));
  std::memcpy(memory, &next, sizeof(T));
  if constexpr (returns) Set<T>(thread, instruction, 0, old);
}
template <Space space, typename T>
void RunCompareAndSwap(Thread& thread, const Instruction& instruction) {
  std::byte* memory = Locate<space>(thread, instruction, AddressAt(thread, instruction, 1),
                                    sizeof(T), /*writes=*/true);
  T old;
  std::memcpy(&old, memory, sizeof(T));
  if (old == Get<T>(thread, instruction, 3)) {
    const T next = Get<T>(thread, instruction, 4);
    std::memcpy(memory, &next, sizeof(T));
  }
  Set<T>(thread, instruction, 0, old);
}

template <Space space, typename T, typename Op>
void AddAtomic(Opcodes& opcodes, const std::string& space_name, const std::string& operation) {
  opcodes.Add("atom" + space_name + operation, &RunAtomic<space, T, Op, true>);
  opcodes.Add("red" + space_name + operation, &RunAtomic<space, T, Op, false>);
}
template <Space space>
void AddAtomicsOf(Opcodes& opcodes, const std::string& name) {
  AddAtomic<space, uint32_t, Exchange>(opcodes, name, ".exch.b32");
  AddAtomic<space, uint32_t, And>(opcodes, name, ".and.b32");
  AddAtomic<space, uint32_t, Or>(opcodes, name, ".or.b32");
  AddAtomic<space, uint32_t, Add>(opcodes, name, ".add.u32");
  AddAtomic<space, uint32_t, Add>(opcodes, name, ".add.s32");
  AddAtomic<space, uint64_t, Add>(opcodes, name, ".add.u64");
  AddAtomic<space, float, Add>(opcodes, name, ".add.f32");
  AddAtomic<space, uint32_t, Minimum>(opcodes, name, ".min.u32");
  AddAtomic<space, int32_t, Minimum>(opcodes, name, ".min.s32");
  AddAtomic<space, uint32_t, Maximum>(opcodes, name, ".max.u32");
  AddAtomic<space, int32_t, Maximum>(opcodes, name, ".max.s32");
  opcodes.Add("atom" + name + ".cas.b32", &RunCompareAndSwap<space, uint32_t>);
}

}  // namespace

void AddMemoryAccesses(Opcodes& opcodes) {
  AddSpace<Space::kGlobal>(opcodes, ".global");
  // Without a space: our kernels have such addresses of global memory alone.
  AddSpace<Space::kGlobal>(opcodes, "");
  AddSpace<Space::kShared>(opcodes, ".shared");
  AddSpace<Space::kLocal>(opcodes, ".local");
  AddSpace<Space::kParam>(opcodes, ".param");
}

void AddAtomics(Opcodes& opcodes) {
  AddAtomicsOf<Space::kGlobal>(opcodes, ".global");
  AddAtomicsOf<Space::kGlobal>(opcodes, "");
  AddAtomicsOf<Space::kShared>(opcodes, ".shared");
}

}  // namespace baton::ptx
