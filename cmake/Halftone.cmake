# Build settings and the helpers that keep every CMakeLists.txt short.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(HALFTONE_CCACHE ccache)
if(HALFTONE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${HALFTONE_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${HALFTONE_CCACHE})
endif()

add_library(halftone_options INTERFACE)
target_include_directories(halftone_options INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
target_compile_definitions(halftone_options INTERFACE HALFTONE_VERSION="${PROJECT_VERSION}")
target_compile_options(halftone_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic
  -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual
  -Wdouble-promotion>)
# GCC 12 reports impossible overlaps in std::string's own copies (GCC bug 105651).
target_compile_options(halftone_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(HALFTONE_WERROR)
  target_compile_options(halftone_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(HALFTONE_SANITIZE)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${HALFTONE_SANITIZE}>
                      $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=undefined>
                      $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>)
  add_link_options(-fsanitize=${HALFTONE_SANITIZE})
endif()

# halftone_library(name DEPS a b ... [PRIVATE third party ...]): one static library from all *.cpp of
# this folder (tests excluded, folders with a CMakeLists.txt of their own excluded), and, in developer
# mode, <name>_test from its *_test.cpp.
function(halftone_library name)
  cmake_parse_arguments(ARG "" "" "DEPS;PRIVATE;TEST_DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  file(GLOB_RECURSE nested CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*/CMakeLists.txt)
  foreach(file ${nested})
    get_filename_component(folder ${file} DIRECTORY)
    list(FILTER sources EXCLUDE REGEX "^${folder}/")
  endforeach()
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")
  if(sources)
    add_library(halftone_${name} STATIC ${sources})
    target_link_libraries(halftone_${name} PUBLIC halftone_options fmt::fmt)
    foreach(dep ${ARG_DEPS})
      target_link_libraries(halftone_${name} PUBLIC halftone_${dep})
    endforeach()
    target_link_libraries(halftone_${name} PRIVATE ${ARG_PRIVATE})
  else()
    add_library(halftone_${name} INTERFACE)
    target_link_libraries(halftone_${name} INTERFACE halftone_options)
    foreach(dep ${ARG_DEPS})
      target_link_libraries(halftone_${name} INTERFACE halftone_${dep})
    endforeach()
  endif()
  if(HALFTONE_DEVELOPER_MODE AND tests)
    halftone_test(${name}_test SOURCES ${tests} DEPS halftone_${name} ${ARG_PRIVATE} ${ARG_TEST_DEPS})
  endif()
endfunction()

# halftone_test(name SOURCES ... DEPS ...): a GoogleTest program whose cases ctest knows one by one.
# HALFTONE_SOURCE_DIR is the repository root, for golden files.
function(halftone_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE HALFTONE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  set(timeout 300)
  if(HALFTONE_SANITIZE)
    set(timeout 1500)
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST
                       PROPERTIES TIMEOUT ${timeout} ENVIRONMENT GOMP_SPINCOUNT=1000)
endfunction()
