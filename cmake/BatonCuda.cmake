# BATON_CUDA: whether there is a CUDA compiler, and cuBLASLt. Without them everything else builds.
option(BATON_WITH_CUDA "Build the CUDA kernels where there is a CUDA compiler" ON)
set(BATON_CUDA OFF)
if(BATON_WITH_CUDA)
  include(CheckLanguage)
  find_program(BATON_NVCC nvcc PATHS /usr/local/cuda/bin)
  if(BATON_NVCC AND NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${BATON_NVCC})
  endif()
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80)  # of the compiler's test; the kernels name their own
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    # By the files that the compiler has read: by preprocessed text, which is that of one
    # architecture, ccache would take an old object where code of another one has changed.
    if(CMAKE_CXX_COMPILER_LAUNCHER MATCHES ccache AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
      set(CMAKE_CUDA_COMPILER_LAUNCHER env CCACHE_DEPEND=1 ccache)
    endif()
    # Debian's CMake 3.25.1 sets a property of this target, also where there is none: CUDA 13 has no
    # such library.
    if(NOT TARGET CUDA::nvToolsExt)
      add_library(CUDA::nvToolsExt INTERFACE IMPORTED)
    endif()
    find_package(CUDAToolkit REQUIRED)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      # CMake 3.25 does not know that nvcc has it.
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    if(TARGET CUDA::cublasLt)
      set(BATON_CUDA ON)
    endif()
  endif()
endif()
