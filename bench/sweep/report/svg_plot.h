// Line plots as SVG files that stand alone, in dark and light.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace baton::sweep {

struct PlotSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;  // ascending by x
};

struct Plot {
  std::string title;
  std::string x_label;
  std::string y_label;
  bool log_x = false;
  double y_max = 1;                // y goes from 0 to here
  double y_mark = 0;               // a dashed line across; 0: none
  std::vector<PlotSeries> series;  // six at most have a colour of their own
};

std::string RenderSvg(const Plot& plot);

}  // namespace baton::sweep
