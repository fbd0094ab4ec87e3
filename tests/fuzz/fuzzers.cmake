# libFuzzer executables of the preset `fuzz`; tools/fuzz.sh builds and runs them. Each has one
# source, NAME_fuzzer.cc, and its seeds in corpus/NAME.
add_custom_target(baton_fuzzers)

#   baton_fuzzer(kv_wire DEPS baton_kvtransfer_core [LIBS x])
function(baton_fuzzer name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS" ${ARGN})
  set(target ${name}_fuzzer)
  add_executable(${target} EXCLUDE_FROM_ALL ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${target}.cc)
  target_link_libraries(${target} PRIVATE ${ARG_DEPS} ${ARG_LIBS} baton_source_dir baton_warnings)
  target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzzers)
  add_dependencies(baton_fuzzers ${target})
endfunction()

# What the fuzzers need of libraries that are otherwise servers and sockets: those take longer to
# build than all else together.
set(parts
    bench/load/client/response_parser.cc
    kvtransfer/transport/side_channel.cc
    router/grpc/request_convert.cc
    router/grpc/status_map.cc
    router/http/http_message.cc
    router/http/request_reader.cc
    router/link/proto_commands.cc
    router/link/proto_convert.cc
    worker/convert.cc
    worker/convert_reply.cc)
list(TRANSFORM parts PREPEND ${PROJECT_SOURCE_DIR}/)
add_library(baton_fuzzed_parts STATIC EXCLUDE_FROM_ALL ${parts})
target_link_libraries(
  baton_fuzzed_parts
  PUBLIC baton_common
         baton_kvtransfer_core
         baton_load_core
         baton_proto
         baton_router_core
         baton_router_openai
         baton_worker_core
         Boost::headers
  PRIVATE baton_warnings)

baton_fuzzer(chat_template DEPS baton_tokenizer)
baton_fuzzer(config_yaml DEPS baton_common baton_unicode)
baton_fuzzer(copy_plan DEPS baton_kvtransfer_core)
baton_fuzzer(grpc_request DEPS baton_fuzzed_parts)
baton_fuzzer(http_answer DEPS baton_fuzzed_parts)
baton_fuzzer(http_request DEPS baton_fuzzed_parts)
baton_fuzzer(kv_wire DEPS baton_kvtransfer_core)
baton_fuzzer(model_files DEPS baton_engine_kv_cache baton_engine_model)
baton_fuzzer(openai_request DEPS baton_fuzzed_parts LIBS nlohmann_json::nlohmann_json)
baton_fuzzer(rank_message DEPS baton_engine)
baton_fuzzer(safetensors DEPS baton_engine_model)
baton_fuzzer(side_channel DEPS baton_fuzzed_parts)
baton_fuzzer(sse DEPS baton_load_core baton_unicode LIBS nlohmann_json::nlohmann_json)
baton_fuzzer(tokenizer_json DEPS baton_tokenizer baton_unicode)
baton_fuzzer(tokenizer_text DEPS baton_tokenizer baton_unicode)
baton_fuzzer(worker_command DEPS baton_fuzzed_parts)
baton_fuzzer(worker_message DEPS baton_fuzzed_parts)

# Writes the seeds that are not text: tests/fuzz/make_corpus.cc.
add_executable(baton_make_corpus EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/make_corpus.cc)
target_link_libraries(baton_make_corpus PRIVATE baton_engine baton_fuzzed_parts baton_source_dir
                                                baton_warnings)
