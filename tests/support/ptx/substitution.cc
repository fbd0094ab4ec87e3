#include "tests/support/ptx/substitution.h"

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <span>

#include "tests/support/cuda_emulation/runtime_api.h"
#include "tests/support/ptx/interpreter.h"
#include "tests/support/ptx/symbols.h"

namespace baton::ptx {

namespace {

// Substitute is called before main.
std::vector<std::unique_ptr<Module>>& Modules() {
  static std::vector<std::unique_ptr<Module>> modules;
  return modules;
}
std::map<std::string, const Kernel*>& Kernels() {
  static std::map<std::string, const Kernel*> kernels;
  return kernels;
}

[[noreturn]] void Die(const std::string& what) {
  std::cerr << "PTX: " << what << '\n';
  std::abort();
}

const Kernel& KernelOf(const void* function) {
  static const std::map<const void*, std::string> names = FunctionNames();
  const auto name = names.find(function);
  if (name == names.end()) Die("a kernel that has no name in this executable");
  const auto kernel = Kernels().find(name->second);
  if (kernel == Kernels().end()) Die("there is no kernel " + name->second);
  return *kernel->second;
}

std::function<void()> ThreadOf(const void* function,
                               const std::vector<std::span<const std::byte>>& args) {
  const Kernel& kernel = KernelOf(function);
  if (args.size() != kernel.params.size()) Die("arguments of another number: " + kernel.name);
  std::vector<std::byte> params;
  for (size_t i = 0; i < args.size(); ++i) {
    const Param& param = kernel.params[i];
    if (args[i].size() != param.bytes) Die("an argument of another size: " + kernel.name);
    params.resize(param.offset + param.bytes);
    std::memcpy(params.data() + param.offset, args[i].data(), param.bytes);
  }
  return [&kernel, params = std::move(params)] { RunThread(kernel, params.data()); };
}

void AddModule(const std::string& file) {
  std::ifstream stream(file);
  if (!stream) throw SyntaxError(file + ": cannot be read");
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  try {
    Modules().push_back(Parse(std::move(text)));
  } catch (const SyntaxError& error) {
    throw SyntaxError(file + ", " + error.what());
  }
  for (const auto& kernel : Modules().back()->kernels) {
    if (!Kernels().emplace(WithoutFileNames(kernel->name), kernel.get()).second) {
      throw SyntaxError(file + ": a kernel of another file has the name " + kernel->name);
    }
  }
}

}  // namespace

void Substitute(const std::vector<std::string>& files) {
  for (const std::string& file : files) AddModule(file);
  cuda_emulation::substitute = &ThreadOf;
}

const std::vector<std::unique_ptr<Module>>& SubstitutedModules() { return Modules(); }

// "48_GLOBAL__N__91498307_15_sum_gathered_cu_c959b9bb" becomes "12_GLOBAL__N_1".
std::string WithoutFileNames(std::string_view mangled) {
  constexpr std::string_view kMark = "_GLOBAL__N__";
  std::string name;
  for (size_t mark = mangled.find(kMark); mark != std::string_view::npos;
       mark = mangled.find(kMark)) {
    size_t digits = mark;
    while (digits > 0 && std::isdigit(static_cast<unsigned char>(mangled[digits - 1])) != 0) {
      --digits;
    }
    const size_t length =
        std::strtoul(std::string(mangled.substr(digits, mark - digits)).c_str(), nullptr, 10);
    name += mangled.substr(0, digits);
    name += "12_GLOBAL__N_1";
    mangled.remove_prefix(mark + length);
  }
  name += mangled;
  return name;
}

}  // namespace baton::ptx
