#include "common/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace baton {
namespace {

class PrometheusCounter final : public Counter {
 public:
  explicit PrometheusCounter(prometheus::Counter& series) : series_(series) {}
  void Increment(double by) override { series_.Increment(by); }
  double Value() const override { return series_.Value(); }

 private:
  prometheus::Counter& series_;
};

class PrometheusGauge final : public Gauge {
 public:
  explicit PrometheusGauge(prometheus::Gauge& series) : series_(series) {}
  void Set(double value) override { series_.Set(value); }
  double Value() const override { return series_.Value(); }

 private:
  prometheus::Gauge& series_;
};

class PrometheusHistogram final : public Histogram {
 public:
  explicit PrometheusHistogram(prometheus::Histogram& series) : series_(series) {}
  void Observe(double value) override { series_.Observe(value); }

 private:
  prometheus::Histogram& series_;
};

using SeriesKey = std::pair<std::string, MetricLabels>;

}  // namespace

struct MetricRegistry::Impl {
  MetricLabels constant_labels;
  prometheus::Registry registry;
  absl::Mutex mutex;
  std::map<SeriesKey, std::unique_ptr<Counter>> counters ABSL_GUARDED_BY(mutex);
  std::map<SeriesKey, std::unique_ptr<Gauge>> gauges ABSL_GUARDED_BY(mutex);
  std::map<SeriesKey, std::unique_ptr<Histogram>> histograms ABSL_GUARDED_BY(mutex);
};

MetricRegistry::MetricRegistry(MetricLabels constant_labels) : impl_(new Impl) {
  impl_->constant_labels = std::move(constant_labels);
}

MetricRegistry::~MetricRegistry() = default;

Counter* MetricRegistry::AddCounter(const std::string& name, const std::string& help,
                                    const MetricLabels& labels) {
  absl::MutexLock lock(&impl_->mutex);
  auto& slot = impl_->counters[{name, labels}];
  if (!slot) {
    auto& family = prometheus::BuildCounter()
                       .Name("baton_" + name)
                       .Help(help)
                       .Labels(impl_->constant_labels)
                       .Register(impl_->registry);
    slot = std::make_unique<PrometheusCounter>(family.Add(labels));
  }
  return slot.get();
}

Gauge* MetricRegistry::AddGauge(const std::string& name, const std::string& help,
                                const MetricLabels& labels) {
  absl::MutexLock lock(&impl_->mutex);
  auto& slot = impl_->gauges[{name, labels}];
  if (!slot) {
    auto& family = prometheus::BuildGauge()
                       .Name("baton_" + name)
                       .Help(help)
                       .Labels(impl_->constant_labels)
                       .Register(impl_->registry);
    slot = std::make_unique<PrometheusGauge>(family.Add(labels));
  }
  return slot.get();
}

Histogram* MetricRegistry::AddHistogram(const std::string& name, const std::string& help,
                                        const MetricLabels& labels,
                                        const std::vector<double>& bounds) {
  absl::MutexLock lock(&impl_->mutex);
  auto& slot = impl_->histograms[{name, labels}];
  if (!slot) {
    auto& family = prometheus::BuildHistogram()
                       .Name("baton_" + name)
                       .Help(help)
                       .Labels(impl_->constant_labels)
                       .Register(impl_->registry);
    slot = std::make_unique<PrometheusHistogram>(family.Add(labels, bounds));
  }
  return slot.get();
}

std::string MetricRegistry::Render() const {
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

std::vector<double> TtftBuckets() {
  return {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,
          .75,  1,    2.5, 5,   7.5, 10,  20,  40, 80,  160};
}

std::vector<double> InterTokenBuckets() {
  return {.002, .004, .006, .008, .01, .015, .02, .025, .03, .04, .05, .075,
          .1,   .15,  .2,   .3,   .4,  .5,   .75, 1,    2,   4,   8};
}

std::vector<double> RequestSecondsBuckets() {
  return {.005, .01, .025, .05, .1, .3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120};
}

std::vector<double> WithBounds(std::vector<double> bounds, const std::vector<double>& extra) {
  bounds.insert(bounds.end(), extra.begin(), extra.end());
  std::sort(bounds.begin(), bounds.end());
  bounds.erase(std::unique(bounds.begin(), bounds.end()), bounds.end());
  return bounds;
}

}  // namespace baton
