# The CUDA backend: on where nvcc is found. It needs a GPU and a driver only to run.
find_program(HALFTONE_NVCC nvcc HINTS ENV CUDACXX /usr/local/cuda/bin)
mark_as_advanced(HALFTONE_NVCC)
if(HALFTONE_NVCC)
  set(cuda_default ON)
else()
  set(cuda_default OFF)
endif()
option(HALFTONE_CUDA "Build the CUDA backend (needs nvcc 12.4 or newer)" ${cuda_default})
if(NOT HALFTONE_CUDA)
  return()
endif()
if(NOT HALFTONE_NVCC AND NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "HALFTONE_CUDA is ON but nvcc was not found; install the CUDA toolkit or set CMAKE_CUDA_COMPILER")
endif()
if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${HALFTONE_NVCC})
endif()
# The own Hopper kernels need 90a; a list such as "80;90a" makes a fat binary.
set(CMAKE_CUDA_ARCHITECTURES 90a CACHE STRING "Compute capabilities to compile for")
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_STANDARD_REQUIRED OFF)
# CMake 3.25 drops CMAKE_CUDA_STANDARD 20 with nvcc 13, so the flag is given here. Without NDEBUG an
# assert in device code serialises wgmma.
string(APPEND CMAKE_CUDA_FLAGS " -std=c++20 -DNDEBUG")
target_compile_options(halftone_options INTERFACE
  "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xcompiler=-Wall,-Wextra,-Wshadow --expt-relaxed-constexpr>")
if(HALFTONE_WERROR)
  target_compile_options(halftone_options INTERFACE
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:--Werror all-warnings -Xcompiler=-Werror>")
endif()
