# One static library per folder. Its DEPS are the only Baton folders that it may include;
# tools/check_includes.py reads these lists and fails on any other include.
#
#   baton_library(baton_common SOURCES a.cc b.cc DEPS baton_x LIBS absl::status)
#
# COMPUTES_LITTLE  compiled without optimization for tests with sanitizers, which takes half the time
# DEPS  Baton targets, public (their headers may appear in ours)
# LIBS  third-party targets that our headers need, public
# PRIVATE_LIBS  third-party targets that only our .cc files need
function(baton_library name)
  cmake_parse_arguments(ARG "COMPUTES_LITTLE" "" "SOURCES;DEPS;LIBS;PRIVATE_LIBS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS} ${ARG_LIBS} PRIVATE baton_warnings
                                                                         ${ARG_PRIVATE_LIBS})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
    if(ARG_COMPUTES_LITTLE AND BATON_SANITIZED_TESTS)
      target_compile_options(${name} PRIVATE -O0)
      baton_precompiled_headers(${name} baton_precompiled_unoptimized)
    else()
      baton_precompiled_headers(${name} baton_precompiled)
    endif()
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${ARG_DEPS} ${ARG_LIBS})
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR})
  endif()
endfunction()

if(CMAKE_CXX_FLAGS MATCHES "sanitize=thread")
  set(BATON_TSAN ON)
endif()
if(CMAKE_CXX_FLAGS MATCHES "sanitize" AND NOT BATON_BUILD_FUZZERS)
  set(BATON_SANITIZED_TESTS ON)
endif()

add_custom_target(baton_optimized_tests)
add_custom_target(baton_sanitized_tests)
add_custom_target(baton_threaded_tests)

# One GoogleTest executable per tested folder, registered with CTest as one test a suite file:
#
#   baton_test(kv_test SOURCES block_pool_test.cc DEPS baton_engine_kv [TIMEOUT 60] [LABELS long])
#
# Below a folder that sets BATON_TESTS_COMPUTE_LITTLE the tests' own sources, not what they test, are
# compiled without optimization, which takes two thirds of the time, or half. They have the label
# light, and are not in baton_optimized_tests: ./test.sh runs them with sanitizers only.
function(baton_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  # Debian's libraries are not instrumented: mark Abseil's locks, pass over gRPC's own threads.
  if(BATON_TSAN)
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support/tsan_abseil.cc
                                   ${PROJECT_SOURCE_DIR}/tests/support/tsan_grpc.cc)
  endif()
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} ${ARG_LIBS} baton_source_dir GTest::gmock
                                        GTest::gtest_main baton_warnings)
  if(BATON_TESTS_COMPUTE_LITTLE)
    target_compile_options(${name} PRIVATE -O0)
    baton_precompiled_headers(${name} baton_precompiled_light_tests)
    list(APPEND ARG_LABELS light)
  else()
    baton_precompiled_headers(${name} baton_precompiled_tests)
    add_dependencies(baton_optimized_tests ${name})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_test(NAME ${name} COMMAND ${name})
  # What the sanitizers' presets build: every test, or only those of code with threads.
  add_dependencies(baton_sanitized_tests ${name})
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(baton_threaded_tests ${name})
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
  # UCX hooks madvise, which glibc calls at a thread's end, after ThreadSanitizer has let it go.
  if(BATON_TSAN)
    set_tests_properties(${name} PROPERTIES ENVIRONMENT UCX_MEM_EVENTS=no)
  endif()
endfunction()

# Warnings are errors. What is switched off, and why:
#   -Wno-missing-field-initializers  designated initialisers leave the documented defaults in place
#   -Wno-maybe-uninitialized, -Wno-restrict, -Wno-stringop-overflow, -Wno-array-bounds
#                                    g++ 12 reports these falsely inside libstdc++ and Abseil at -O2
option(BATON_WARNINGS_ARE_ERRORS "OFF: for compilers that nobody tried yet" ON)
add_library(baton_warnings INTERFACE)
set(BATON_WARNINGS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wextra-semi
                   -Wno-missing-field-initializers)
if(BATON_WARNINGS_ARE_ERRORS)
  list(APPEND BATON_WARNINGS -Werror)
  set(BATON_CUDA_WARNINGS --Werror=all-warnings)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND BATON_WARNINGS -Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow
       -Wno-array-bounds)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Only clang checks the ABSL_GUARDED_BY annotations.
  list(APPEND BATON_WARNINGS -Wthread-safety)
endif()
target_compile_options(
  baton_warnings
  INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${BATON_WARNINGS}>"
            "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra;${BATON_CUDA_WARNINGS}>")
