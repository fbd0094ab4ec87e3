#include "tests/support/ptx/parser.h"

#include <charconv>
#include <utility>

#include "tests/support/ptx/kernel_builder.h"
#include "tests/support/ptx/opcodes.h"
#include "tests/support/ptx/scanner.h"

namespace baton::ptx {

namespace {

size_t Integer(std::string_view text) {
  size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw SyntaxError("not a number: " + std::string(text));
  }
  return value;
}

// ".shared .align 8 .b8 held[16384]", ".param .u64 name": what stands before the name is looked at
// only for what is needed here.
struct Declaration {
  std::string_view name;
  size_t alignment = 1;
  size_t element_bytes = 0;
  size_t bytes = 0;
  bool has_extent = true;  // not "name[]"
};
size_t BytesOfType(std::string_view type) {
  const size_t digits = type.find_first_of("0123456789");
  if (digits == std::string_view::npos) throw SyntaxError("no type: " + std::string(type));
  return Integer(type.substr(digits)) / 8;
}
Declaration ParseDeclaration(std::string_view text) {
  const std::vector<std::string_view> words = Words(text);
  Declaration declaration;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] == ".align") declaration.alignment = Integer(words[++i]);
  }
  if (words.size() < 2) throw SyntaxError("not a declaration: " + std::string(text));
  const size_t element_bytes = BytesOfType(words[words.size() - 2]);
  const std::string_view name = words.back();
  const size_t bracket = name.find('[');
  declaration.name = name.substr(0, bracket);
  declaration.element_bytes = element_bytes;
  declaration.bytes = element_bytes;
  declaration.alignment = std::max(declaration.alignment, element_bytes);
  if (bracket == std::string_view::npos) return declaration;
  const std::string_view extent = name.substr(bracket + 1, name.size() - bracket - 2);
  declaration.has_extent = !extent.empty();
  declaration.bytes = extent.empty() ? 0 : element_bytes * Integer(extent);
  return declaration;
}
SharedVariable ToShared(const Declaration& declaration) {
  return {declaration.alignment, declaration.bytes, !declaration.has_extent};
}

class Parser {
 public:
  explicit Parser(Module* module) : module_(module), scanner_(module->text) {}

  void Run() {
    ReadFiles();
    while (scanner_.HasMore()) ParseItem();
  }
  size_t LineNumber() const { return scanner_.LineNumber(); }

 private:
  // .file 1 "/some/kernel.cu"
  void ReadFiles() {
    std::string_view text = module_->text;
    for (size_t at = text.find("\n.file"); at != std::string_view::npos;
         at = text.find("\n.file", at + 1)) {
      Add(text.substr(at + 1, text.find('\n', at + 1) - at - 1));
    }
    for (size_t at = text.find("\n\t.file"); at != std::string_view::npos;
         at = text.find("\n\t.file", at + 1)) {
      Add(text.substr(at + 2, text.find('\n', at + 1) - at - 2));
    }
  }
  void Add(std::string_view directive) {
    const std::vector<std::string_view> words = Words(directive);
    const size_t number = Integer(words.at(1));
    if (module_->files.size() <= number) module_->files.resize(number + 1);
    const std::string_view quoted = words.at(2);
    module_->files[number] = quoted.substr(1, quoted.rfind('"') - 1);
  }

  void ParseItem() {
    for (const char* passed : {".version", ".target", ".address_size", ".file"}) {
      if (scanner_.NextIs(passed)) {
        scanner_.ReadLine();
        return;
      }
    }
    if (scanner_.NextIs(".section")) {
      scanner_.ReadUntil("}");
      scanner_.Take("}");
      return;
    }
    while (scanner_.Take(".visible") || scanner_.Take(".weak") || scanner_.Take(".extern")) {
      scanner_.HasMore();
    }
    if (scanner_.Take(".entry")) {
      ParseKernel();
    } else if (scanner_.NextIs(".shared")) {
      const Declaration declaration = ParseDeclaration(scanner_.ReadUntil(";"));
      symbols_.shared.emplace(declaration.name, ToShared(declaration));
    } else if (scanner_.NextIs(".global") || scanner_.NextIs(".const")) {
      ParseVariable();
    } else {
      throw SyntaxError("not known outside of a kernel: " + std::string(scanner_.ReadLine()));
    }
  }

  // .global .align 4 .b8 name[24] = {65, 144, ...};
  void ParseVariable() {
    const Declaration declaration = ParseDeclaration(scanner_.ReadUntil("=;"));
    if (declaration.element_bytes != 1) throw SyntaxError("a variable that is not of bytes");
    auto variable = std::make_unique<Variable>();
    variable->name = declaration.name;
    scanner_.HasMore();
    if (!scanner_.Take("{")) throw SyntaxError("a variable without values: " + variable->name);
    for (const std::string_view value : SplitAtCommas(scanner_.ReadUntil("}"))) {
      variable->memory.push_back(static_cast<std::byte>(Integer(value)));
    }
    scanner_.ReadUntil(";");
    variable->memory.resize(declaration.bytes);
    symbols_.global.emplace(variable->name, variable->memory);
    module_->variables.push_back(std::move(variable));
  }

  void ParseKernel() {
    auto kernel = std::make_unique<Kernel>();
    kernel->name = scanner_.ReadUntil("(");
    KernelBuilder builder(kernel.get(), &symbols_);
    for (const std::string_view param : SplitAtCommas(scanner_.ReadUntil(")"))) {
      const Declaration declaration = ParseDeclaration(param);
      builder.AddParam(declaration.name, declaration.alignment, declaration.bytes);
    }
    ParseLimits(scanner_.ReadUntil("{"), kernel.get());
    where_ = {"", 0, kernel->name.c_str()};
    int depth = 0;
    do {
      if (!scanner_.HasMore()) throw SyntaxError("a kernel without an end: " + kernel->name);
      if (scanner_.Take("{")) {
        ++depth;
        builder.OpenScope();
      } else if (scanner_.Take("}")) {
        --depth;
        builder.CloseScope();
      } else {
        ParseStatement(builder);
      }
    } while (depth > 0);
    builder.Finish();
    module_->kernels.push_back(std::move(kernel));
  }

  // .maxntid 256, 1, 1, among hints of how many blocks there may be
  static void ParseLimits(std::string_view text, Kernel* kernel) {
    constexpr std::string_view kMaxThreads = ".maxntid";
    const size_t at = text.find(kMaxThreads);
    if (at == std::string_view::npos) return;
    kernel->max_threads = 1;
    const std::string_view line = text.substr(at + kMaxThreads.size());
    for (const std::string_view side : SplitAtCommas(line.substr(0, line.find('\n')))) {
      kernel->max_threads *= Integer(side);
    }
  }

  void ParseStatement(KernelBuilder& builder) {
    if (scanner_.NextIs(".loc\t")) {
      ParseLocation(scanner_.ReadLine());
    } else if (scanner_.NextIs(".pragma")) {
      scanner_.ReadUntil(";");
    } else if (scanner_.Take(".reg")) {
      builder.DeclareRegisters(scanner_.ReadUntil(";"));
    } else if (scanner_.NextIs(".shared")) {
      const Declaration declaration = ParseDeclaration(scanner_.ReadUntil(";"));
      builder.DeclareShared(declaration.name, ToShared(declaration));
    } else if (scanner_.NextIs(".local")) {
      const Declaration declaration = ParseDeclaration(scanner_.ReadUntil(";"));
      builder.DeclareLocal(declaration.name, declaration.alignment, declaration.bytes);
    } else if (const std::string_view label = scanner_.TakeLabel(); !label.empty()) {
      builder.AddLabel(label);
    } else {
      builder.AddInstruction(scanner_.ReadUntil(";"), where_);
    }
  }

  // .loc 1 70 5, function_name $L__info_string0, inlined_at 2 78 7: of the two the first that is
  // not in a header of CUDA's.
  void ParseLocation(std::string_view text) {
    std::vector<std::string_view> words = Words(text);
    const auto read = [&](size_t at) {
      const size_t file = Integer(words.at(at));
      if (file >= module_->files.size()) return false;
      where_.file = module_->files[file].c_str();
      where_.line = static_cast<unsigned>(Integer(words.at(at + 1)));
      return module_->files[file].find("/engine/") != std::string::npos;
    };
    if (read(1) || words.size() < 10) return;
    read(7);
  }

  Module* module_;
  Scanner scanner_;
  Symbols symbols_;
  cuda_emulation::Place where_;
};

}  // namespace

std::unique_ptr<Module> Parse(std::string text) {
  auto module = std::make_unique<Module>();
  module->text = std::move(text);
  Parser parser(module.get());
  try {
    parser.Run();
  } catch (const SyntaxError& error) {
    throw SyntaxError("line " + std::to_string(parser.LineNumber()) + ": " + error.what());
  }
  return module;
}

const Opcodes& KnownOpcodes() {
  static const Opcodes opcodes = [] {
    Opcodes all;
    AddArithmetic(all);
    AddBitOperations(all);
    AddComparisons(all);
    AddConversions(all);
    AddControl(all);
    AddMemoryAccesses(all);
    AddAtomics(all);
    AddCopies(all);
    AddCollectives(all);
    AddMatrixOperations(all);
    AddWarpgroupProducts(all);
    return all;
  }();
  return opcodes;
}

}  // namespace baton::ptx
