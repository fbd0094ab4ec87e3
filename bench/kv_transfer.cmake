# The two-process benchmark of KV transfer; it forks, so it is a plain program.
add_executable(kv_transfer_bench ${CMAKE_CURRENT_LIST_DIR}/kv_transfer_bench.cc)
target_link_libraries(kv_transfer_bench PRIVATE baton_kvtransfer CLI11::CLI11 baton_warnings)

# Does it run, and are the bytes right: a few seconds' worth of the benchmark as a test.
if(BATON_BUILD_TESTS)
  add_dependencies(baton_sanitized_tests kv_transfer_bench)
  foreach(transport shm tcp)
    add_test(NAME kv_transfer_bench_${transport}
             COMMAND kv_transfer_bench handoff --transport ${transport} --handoffs 3 --scattered
                     --verify)
    set_tests_properties(kv_transfer_bench_${transport} PROPERTIES TIMEOUT 60)
  endforeach()
endif()
