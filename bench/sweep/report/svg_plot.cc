#include "bench/sweep/report/svg_plot.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace baton::sweep {
namespace {

constexpr double kWidth = 640, kHeight = 380;
constexpr double kLeft = 64, kRight = 16, kTop = 40, kBottom = 84;
// Told apart also by those who see no red or green (Okabe and Ito).
constexpr std::array kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};
constexpr char kStyle[] =
    "<style>text{font:13px sans-serif;fill:#222}.bg{fill:#fff}.grid{stroke:#ddd}"
    ".mark{stroke:#888;stroke-dasharray:5 4}.title{font-size:15px;font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.bg{fill:#181a1b}.grid{stroke:#383c3e}}"
    "</style>";

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

// 1, 2 or 5 times a power of ten, about a fifth of `range`.
double Step(double range) {
  const double rough = range / 5;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (rough <= factor * power) return factor * power;
  }
  return 10 * power;
}

class Canvas {
 public:
  explicit Canvas(const Plot& plot) : plot_(plot) {
    double low = 1e300;
    double high = -1e300;
    for (const PlotSeries& series : plot.series) {
      for (const auto& [x, y] : series.points) {
        low = std::min(low, x);
        high = std::max(high, x);
      }
    }
    if (low > high) low = 0, high = 1;  // nothing to draw
    if (!plot.log_x) low = 0;
    x_low_ = Axis(low);
    x_high_ = std::max(Axis(high), x_low_ + 1e-9);
  }

  std::string Render() {
    out_ = absl::StrFormat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" role=\"img\">"
        "<title>%s</title>%s<rect class=\"bg\" width=\"%g\" height=\"%g\"/>\n",
        kWidth, kHeight, Escape(plot_.title), kStyle, kWidth, kHeight);
    Text(kLeft, 24, "start", plot_.title, "title");
    Text((kLeft + kWidth - kRight) / 2, kHeight - kBottom + 38, "middle", plot_.x_label);
    absl::StrAppendFormat(&out_,
                          "<text transform=\"translate(16 %g) rotate(-90)\" "
                          "text-anchor=\"middle\">%s</text>\n",
                          (kTop + kHeight - kBottom) / 2, Escape(plot_.y_label));
    DrawGrid();
    if (plot_.y_mark > 0) Line("mark", kLeft, Y(plot_.y_mark), kWidth - kRight, Y(plot_.y_mark));
    for (size_t i = 0; i < plot_.series.size(); ++i) DrawSeries(i);
    return out_ + "</svg>\n";
  }

 private:
  double Axis(double x) const { return plot_.log_x ? std::log2(x) : x; }
  double X(double x) const {
    return kLeft + (Axis(x) - x_low_) / (x_high_ - x_low_) * (kWidth - kLeft - kRight);
  }
  double Y(double y) const {
    return kHeight - kBottom - std::min(1.0, y / plot_.y_max) * (kHeight - kTop - kBottom);
  }

  void Line(const char* style, double x1, double y1, double x2, double y2) {
    absl::StrAppendFormat(&out_,
                          "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n",
                          style, x1, y1, x2, y2);
  }
  void Text(double x, double y, const char* anchor, const std::string& text,
            const char* style = "") {
    absl::StrAppendFormat(&out_,
                          "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n",
                          style, x, y, anchor, Escape(text));
  }

  void DrawGrid() {
    const double y_step = Step(plot_.y_max);
    for (double y = 0; y <= plot_.y_max * 1.0001; y += y_step) {
      Line("grid", kLeft, Y(y), kWidth - kRight, Y(y));
      Text(kLeft - 6, Y(y) + 4, "end", absl::StrFormat("%g", y));
    }
    // A logarithmic axis counts in powers of two.
    const double x_step = plot_.log_x ? 1 : Step(x_high_ - x_low_);
    for (double x = std::ceil(x_low_ / x_step) * x_step; x <= x_high_ * 1.0001; x += x_step) {
      const double value = plot_.log_x ? std::exp2(x) : x;
      Line("grid", X(value), kTop, X(value), kHeight - kBottom);
      Text(X(value), kHeight - kBottom + 18, "middle", absl::StrFormat("%.3g", value));
    }
  }

  void DrawSeries(size_t index) {
    const PlotSeries& series = plot_.series[index];
    const char* colour = kColours[index % kColours.size()];
    std::string points;
    for (const auto& [x, y] : series.points) {
      absl::StrAppendFormat(&points, "%.1f,%.1f ", X(x), Y(y));
    }
    absl::StrAppendFormat(
        &out_, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", points,
        colour);
    for (const auto& [x, y] : series.points) {
      absl::StrAppendFormat(&out_, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", X(x),
                            Y(y), colour);
    }
    const double legend_x = kLeft + static_cast<double>(index) * 180;
    absl::StrAppendFormat(&out_,
                          "<rect x=\"%g\" y=\"%g\" width=\"14\" height=\"4\" fill=\"%s\"/>\n",
                          legend_x, kHeight - 22, colour);
    Text(legend_x + 20, kHeight - 15, "start", series.name);
  }

  const Plot& plot_;
  double x_low_ = 0;
  double x_high_ = 1;
  std::string out_;
};

}  // namespace

std::string RenderSvg(const Plot& plot) { return Canvas(plot).Render(); }

}  // namespace baton::sweep
