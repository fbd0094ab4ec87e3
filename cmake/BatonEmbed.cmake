# Makes a text file part of a target: a generated source defines `SYMBOL`, declared as
# `extern const std::string_view SYMBOL;` in namespace baton by a header of the target.
function(baton_embed target file symbol)
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.cc)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
  # Pieces: compilers need not take a literal of more than 64 KiB.
  file(READ ${source} text)
  string(LENGTH "${text}" length)
  set(literals "")
  set(at 0)
  while(at LESS length)
    string(SUBSTRING "${text}" ${at} 8000 piece)
    string(APPEND literals "R\"~~~~(${piece})~~~~\"\n")
    math(EXPR at "${at} + 8000")
  endwhile()
  file(CONFIGURE OUTPUT ${generated} CONTENT "// Made from @file@ by cmake/BatonEmbed.cmake.
#include <string_view>
namespace baton {
extern const std::string_view @symbol@;
const std::string_view @symbol@ = @literals@;
}  // namespace baton
" @ONLY)
  target_sources(${target} PRIVATE ${generated})
endfunction()
