# What tests of the HTTP and gRPC fronts share.
add_library(baton_router_fakes STATIC ${CMAKE_CURRENT_LIST_DIR}/fake_completion_service.cc)
target_link_libraries(baton_router_fakes PUBLIC baton_common baton_router baton_tokenizer
                      PRIVATE baton_warnings)
add_executable(baton_fake_server EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/fake_server_main.cc)
target_link_libraries(baton_fake_server PRIVATE baton_router_http baton_router_fakes baton_warnings)
