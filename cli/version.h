// The version of this build.
#pragma once

namespace baton {

inline constexpr char kVersion[] = BATON_VERSION;

}  // namespace baton
