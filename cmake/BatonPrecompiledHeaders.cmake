# Headers of other people's that nearly every source file reads, compiled once for a build tree. In
# the preset `dev` they are not: there each file has to include what it uses.
option(BATON_PRECOMPILED_HEADERS "Precompile the headers that nearly every file reads" OFF)

# Lets `target` take the precompiled headers of `owner`, which has the same compile options.
function(baton_precompiled_headers target owner)
  if(TARGET ${owner})
    target_precompile_headers(${target} REUSE_FROM ${owner})
  endif()
endfunction()

if(NOT BATON_PRECOMPILED_HEADERS)
  return()
endif()

# CMake's way with clang puts the path of the build tree where ccache does not make it relative, and
# so finds nothing for another checkout. Clang itself takes FILE.pch for `-include FILE`, if it is
# there: with another name an old one is not read while the new one is made.
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  set(CMAKE_PCH_EXTENSION .precompiled)
  set(CMAKE_CXX_COMPILE_OPTIONS_CREATE_PCH -Xclang -emit-pch -Xclang -fno-pch-timestamp
                                           -include <PCH_HEADER> -x c++-header)
  set(CMAKE_CXX_COMPILE_OPTIONS_USE_PCH -Xclang -include-pch -Xclang <PCH_FILE>)
endif()

set(COMMON_HEADERS
    <algorithm>
    <cmath>
    <cstdint>
    <cstring>
    <deque>
    <functional>
    <map>
    <memory>
    <optional>
    <random>
    <span>
    <string>
    <string_view>
    <thread>
    <utility>
    <variant>
    <vector>
    <absl/container/btree_map.h>
    <absl/container/flat_hash_map.h>
    <absl/status/status.h>
    <absl/status/statusor.h>
    <absl/strings/str_cat.h>
    <absl/strings/str_format.h>
    <absl/synchronization/mutex.h>
    <absl/time/time.h>)
set(SOURCES_DIR ${PROJECT_BINARY_DIR}/precompiled)
file(CONFIGURE OUTPUT ${SOURCES_DIR}/library.cc CONTENT "")
file(CONFIGURE OUTPUT ${SOURCES_DIR}/executable.cc CONTENT "int main() {}\n")
# They hold for one set of options. Most targets have this one from a library.
add_compile_options(-pthread)

add_library(baton_precompiled STATIC EXCLUDE_FROM_ALL ${SOURCES_DIR}/library.cc)
add_library(baton_precompiled_unoptimized STATIC EXCLUDE_FROM_ALL ${SOURCES_DIR}/library.cc)
set(owners baton_precompiled baton_precompiled_unoptimized)
if(BATON_BUILD_TESTS)
  # Executables, as tests are.
  add_executable(baton_precompiled_tests EXCLUDE_FROM_ALL ${SOURCES_DIR}/executable.cc)
  add_executable(baton_precompiled_light_tests EXCLUDE_FROM_ALL ${SOURCES_DIR}/executable.cc)
  list(APPEND owners baton_precompiled_tests baton_precompiled_light_tests)
endif()
foreach(owner ${owners})
  target_link_libraries(${owner} PRIVATE absl::statusor)
  if(owner MATCHES tests)
    target_link_libraries(${owner} PRIVATE GTest::gmock)
    target_precompile_headers(${owner} PRIVATE ${COMMON_HEADERS} <gmock/gmock.h> <gtest/gtest.h>)
  else()
    target_precompile_headers(${owner} PRIVATE ${COMMON_HEADERS})
  endif()
  if(owner MATCHES "unoptimized|light")
    target_compile_options(${owner} PRIVATE -O0)
  endif()
endforeach()
