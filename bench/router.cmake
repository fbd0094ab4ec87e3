# The router as clients and workers meet it. It starts the executable, so it is a plain program.
add_executable(router_bench router/null_worker.cc router/router_bench.cc
                            router/router_under_test.cc)
target_link_libraries(router_bench PRIVATE baton_worker baton_load_client baton_child_process
                                           baton_tokenizer CLI11::CLI11 baton_warnings)
add_dependencies(router_bench baton)

# Does every token arrive: a second's worth of the benchmark as a test. Not under sanitizers, which
# build no executable.
if(BATON_BUILD_TESTS AND NOT CMAKE_CXX_FLAGS MATCHES "sanitize")
  add_test(NAME router_bench_relay
           COMMAND router_bench relay --no-pin --streams 8 --tokens 200 --model
                   ${PROJECT_SOURCE_DIR}/models/demo)
  add_test(NAME router_bench_latency
           COMMAND router_bench latency --no-pin --rate 100 --seconds 1 --usage --model
                   ${PROJECT_SOURCE_DIR}/models/demo)
  set_tests_properties(router_bench_relay router_bench_latency PROPERTIES TIMEOUT 60)
endif()
