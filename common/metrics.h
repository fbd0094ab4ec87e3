// Prometheus metrics. A thin wrapper, so that prometheus-cpp's headers stay out of ours.
//
// A registry is made by main and passed to whoever counts. Series are created once, at start, so
// that every series exists at zero; the returned pointers live as long as the registry. All
// operations on series are thread-safe and lock-free or nearly so.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace baton {

using MetricLabels = std::map<std::string, std::string>;

class Counter {
 public:
  virtual ~Counter() = default;
  virtual void Increment(double by = 1.0) = 0;
  virtual double Value() const = 0;
};

class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void Set(double value) = 0;
  virtual double Value() const = 0;
};

class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void Observe(double value) = 0;
};

class MetricRegistry {
 public:
  // `constant_labels` are put on every series, for example {{"worker", "prefill-0"}}.
  explicit MetricRegistry(MetricLabels constant_labels = {});
  ~MetricRegistry();

  // `name` without the prefix `baton_`, which is added. The same (name, labels) twice returns the
  // same series. `help` must be the same for all series of a name. Thread-safe.
  Counter* AddCounter(const std::string& name, const std::string& help,
                      const MetricLabels& labels = {});
  Gauge* AddGauge(const std::string& name, const std::string& help,
                  const MetricLabels& labels = {});
  // `bounds`: upper bounds in ascending order, +Inf is added.
  Histogram* AddHistogram(const std::string& name, const std::string& help,
                          const MetricLabels& labels, const std::vector<double>& bounds);

  // The Prometheus text exposition format, version 0.0.4.
  std::string Render() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Bucket bounds in seconds, from API.md and from what the usual dashboards expect.
std::vector<double> TtftBuckets();
std::vector<double> InterTokenBuckets();
std::vector<double> RequestSecondsBuckets();
// `bounds` with `extra` inserted in order: SLO thresholds must be bucket bounds to be exact.
std::vector<double> WithBounds(std::vector<double> bounds, const std::vector<double>& extra);

}  // namespace baton
