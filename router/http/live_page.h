// What the router shows at `/`: one page without outside resources that polls GET /cluster.
#pragma once

#include <string_view>

namespace baton {

extern const std::string_view kLivePage;  // made from live_page.html

}  // namespace baton
