#include "engine/model/model_weights.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/model/packed_cache.h"

namespace baton {
namespace {

absl::StatusOr<ModelWeights> LoadFrom(PackedWeightReader* reader, const WeightLoad& load,
                                      const LoadProgressFn& progress) {
  WeightLoader<std::vector<float>, PackedMatrix> loader(load.config, load.shard, reader, progress);
  ASSIGN_OR_RETURN(auto loaded, loader.Load());
  return ModelWeights{{std::move(loaded)}, nullptr};
}

// All that packed weights follow from, but for the code: that is in the file's version.
std::string FactsOf(const WeightLoad& load) {
  return absl::StrCat("config ", load.config.Canonical(), "\n", load.formats.Describe(), "\n",
                      load.shard.Describe(), "\n", load.source->Identity());
}

absl::StatusOr<ModelWeights> LoadPacked(const WeightLoad& load, const std::string& facts,
                                        const LoadProgressFn& progress) {
  ASSIGN_OR_RETURN(std::unique_ptr<PackedCache> cache,
                   PackedCache::Open(load.cache_file, facts, load.pool));
  CacheReader reader(cache.get(), load.formats);
  ASSIGN_OR_RETURN(ModelWeights weights, LoadFrom(&reader, load, progress));
  weights.fingerprint = cache->fingerprint();
  weights.cache = std::move(cache);
  return weights;
}

void Note(const WeightLoad& load, bool warning, const char* event, std::string_view why = "") {
  if (!load.note) return;
  load.note({.warning = warning, .event = event, .file = load.cache_file, .why = std::string(why)});
}

}  // namespace

absl::StatusOr<ModelWeights> LoadWeights(const WeightLoad& load, const LoadProgressFn& progress) {
  const bool cached = !load.cache_file.empty();
  const std::string facts = cached ? FactsOf(load) : "";
  if (cached) {
    absl::StatusOr<ModelWeights> packed = LoadPacked(load, facts, progress);
    if (packed.ok()) {
      Note(load, false, "packed weights used");
      return packed;
    }
    if (!absl::IsNotFound(packed.status())) {
      Note(load, true, "packed weights are stale", View(packed.status().message()));
    }
  }
  PackingReader reader(load.source, load.formats, load.pool);
  ASSIGN_OR_RETURN(ModelWeights weights, LoadFrom(&reader, load, progress));
  weights.fingerprint = load.source->Fingerprint(load.pool);
  if (!cached) return weights;
  const absl::Status written = WritePackedCache(
      load.cache_file,
      {.facts = facts, .fingerprint = weights.fingerprint, .sections = reader.sections()},
      load.pool);
  if (written.ok()) {
    Note(load, false, "packed weights written");
  } else {
    Note(load, !absl::IsAborted(written), "packed weights not written", View(written.message()));
  }
  return weights;
}

}  // namespace baton
