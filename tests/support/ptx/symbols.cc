#include "tests/support/ptx/symbols.h"

#include <elf.h>
#include <link.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <vector>

namespace baton::ptx {

namespace {

// The executable comes first.
int TakeFirst(dl_phdr_info* object, size_t, void* base) {
  *static_cast<uintptr_t*>(base) = object->dlpi_addr;
  return 1;
}

template <typename T>
std::vector<T> Table(const std::string& file, const Elf64_Shdr& section) {
  std::vector<T> entries(section.sh_size / sizeof(T));
  std::memcpy(entries.data(), file.data() + section.sh_offset, entries.size() * sizeof(T));
  return entries;
}

}  // namespace

std::map<const void*, std::string> FunctionNames() {
  uintptr_t base = 0;
  dl_iterate_phdr(&TakeFirst, &base);
  std::ifstream stream("/proc/self/exe", std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(stream), {}};
  Elf64_Ehdr header{};
  std::memcpy(&header, file.data(), sizeof(header));
  std::vector<Elf64_Shdr> sections(header.e_shnum);
  std::memcpy(sections.data(), file.data() + header.e_shoff, sections.size() * sizeof(Elf64_Shdr));
  std::map<const void*, std::string> names;
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_SYMTAB) continue;
    const char* strings = file.data() + sections[section.sh_link].sh_offset;
    for (const Elf64_Sym& symbol : Table<Elf64_Sym>(file, section)) {
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_value == 0) continue;
      names.emplace(reinterpret_cast<const void*>(base + symbol.st_value),
                    strings + symbol.st_name);
    }
  }
  return names;
}

}  // namespace baton::ptx
