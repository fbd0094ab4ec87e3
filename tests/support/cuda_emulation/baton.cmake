# The one executable, but its CUDA device is the emulation: real processes of workers with GPUs.
add_executable(baton_emulated_cuda ${PROJECT_SOURCE_DIR}/cli/main.cc)
target_link_libraries(baton_emulated_cuda PRIVATE baton_warnings baton_cli
                                                  baton_engine_cuda_emulated)
