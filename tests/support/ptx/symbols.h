// The functions of this executable.
#pragma once

#include <map>
#include <string>

namespace baton::ptx {

// By their addresses; mangled. Empty: it was stripped.
std::map<const void*, std::string> FunctionNames();

}  // namespace baton::ptx
