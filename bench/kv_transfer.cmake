# The two-process benchmark of KV transfer; it forks, so it is a plain program.
add_executable(kv_transfer_bench ${CMAKE_CURRENT_LIST_DIR}/kv_transfer_bench.cc)
target_link_libraries(kv_transfer_bench PRIVATE baton_kvtransfer baton_warnings)
