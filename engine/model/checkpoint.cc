#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/strings.h"
#include "engine/model/json_reader.h"
#include "engine/model/safetensors.h"
#include "engine/model/weight_source.h"

namespace baton {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";

struct StoredTensor {
  TensorView view;
  std::string file;
  bool used = false;
};

class Checkpoint final : public WeightSource {
 public:
  explicit Checkpoint(bool tied_embeddings) : tied_embeddings_(tied_embeddings) {}

  // `assigned`: the tensors that the index places in this file; null: whatever the file holds.
  absl::Status AddFile(const std::string& path, const std::set<std::string>* assigned) {
    ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> file, MappedFile::Open(path));
    ASSIGN_OR_RETURN(std::vector<TensorView> views, ParseSafetensors(file->bytes(), path));
    if (assigned != nullptr) RETURN_IF_ERROR(CheckAssigned(path, views, *assigned));
    identities_.push_back(IdentityOf(*file, views, path));
    for (TensorView& view : views) {
      const std::string name = view.name;
      tensors_[name] = {.view = std::move(view), .file = path, .used = false};
    }
    files_.push_back(std::move(file));
    return absl::OkStatus();
  }

  absl::StatusOr<WeightTensor> Get(const std::string& name, WeightRole role, int64_t rows,
                                   int64_t columns) override {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) {
      return absl::NotFoundError(absl::StrCat("tensor ", name, " is missing from the model's ",
                                              files_.size(), " safetensors file(s)"));
    }
    StoredTensor& stored = it->second;
    const TensorView& view = stored.view;
    const std::vector<int64_t> expected = role == WeightRole::kMatrix
                                              ? std::vector<int64_t>{rows, columns}
                                              : std::vector<int64_t>{columns};
    if (view.shape != expected) {
      return absl::InvalidArgumentError(absl::StrCat(
          stored.file, ": tensor ", name, " has shape [", absl::StrJoin(view.shape, ", "),
          "]; config.json asks for [", absl::StrJoin(expected, ", "), "]"));
    }
    ASSIGN_OR_RETURN(const WeightDtype dtype, ToDtype(stored));
    stored.used = true;
    dtypes_.insert(std::string(WeightDtypeName(dtype)));
    if (asked_for_.empty()) {
      for (const auto& file : files_) file->ExpectAllToBeRead();
    }
    asked_for_.push_back({HashString(name, static_cast<uint64_t>(dtype)), view.data});
    return WeightTensor::Stored(view.data.data(), dtype, columns);
  }

  absl::Status CheckAllUsed() const override {
    for (const auto& [name, stored] : tensors_) {
      if (stored.used || Ignored(name)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(stored.file, ": tensor ", name, " does not belong to this architecture"));
    }
    return absl::OkStatus();
  }

  uint64_t Fingerprint(ComputePool* pool) const override {
    std::vector<uint64_t> hashes(asked_for_.size());
    pool->Run(static_cast<int32_t>(hashes.size()), [&](int32_t task, int32_t /*thread*/) {
      const auto i = static_cast<size_t>(task);
      hashes[i] = HashBytes(asked_for_[i].data.data(), asked_for_[i].data.size());
    });
    uint64_t fingerprint = 0;
    for (size_t i = 0; i < hashes.size(); ++i) {
      fingerprint = HashCombine(fingerprint, asked_for_[i].name_hash);
      fingerprint = HashCombine(fingerprint, hashes[i]);
    }
    return fingerprint;
  }
  std::string Identity() const override { return absl::StrJoin(identities_, "\n"); }
  std::string dtype_name() const override { return absl::StrJoin(dtypes_, "+"); }

 private:
  static absl::Status CheckAssigned(const std::string& path, const std::vector<TensorView>& views,
                                    const std::set<std::string>& assigned) {
    std::set<std::string> present;
    for (const TensorView& view : views) {
      present.insert(view.name);
      if (!assigned.contains(view.name)) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ": tensor ", view.name, " is not in ", kIndexFile));
      }
    }
    for (const std::string& name : assigned) {
      if (present.contains(name)) continue;
      return absl::NotFoundError(
          absl::StrCat(path, ": tensor ", name, " is missing, though ", kIndexFile, " names it"));
    }
    return absl::OkStatus();
  }

  // The header names and places the tensors; the rest differs when somebody has written to them.
  static std::string IdentityOf(const MappedFile& file, const std::vector<TensorView>& views,
                                const std::string& path) {
    const std::byte* begin = file.bytes().data();
    const size_t header = views.empty() ? file.bytes().size() : views.front().data.data() - begin;
    const MappedFile::Facts& facts = file.facts();
    return absl::StrCat(std::filesystem::path(path).filename().string(), ": header ",
                        absl::Hex(HashBytes(begin, header)), ", ", file.bytes().size(),
                        " bytes, inode ", facts.inode, ", modified ", facts.modified_ns,
                        ", changed ", facts.changed_ns);
  }

  static absl::StatusOr<WeightDtype> ToDtype(const StoredTensor& stored) {
    if (stored.view.dtype == "BF16") return WeightDtype::kBf16;
    if (stored.view.dtype == "F16") return WeightDtype::kF16;
    if (stored.view.dtype == "F32") return WeightDtype::kF32;
    return absl::InvalidArgumentError(absl::StrCat(stored.file, ": tensor ", stored.view.name,
                                                   " has dtype ", stored.view.dtype,
                                                   "; supported: BF16, F16, F32"));
  }

  // Tensors that some exporters write and that the model computes itself or has under another name.
  bool Ignored(const std::string& name) const {
    return absl::EndsWith(name, ".rotary_emb.inv_freq") ||
           (tied_embeddings_ && name == "lm_head.weight");
  }

  const bool tied_embeddings_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::map<std::string, StoredTensor> tensors_;
  std::set<std::string> dtypes_;
  struct AskedFor {
    uint64_t name_hash = 0;
    std::span<const std::byte> data;
  };
  std::vector<AskedFor> asked_for_;
  std::vector<std::string> identities_;  // of the files
};

// File name of each shard to the tensors in it.
absl::StatusOr<std::map<std::string, std::set<std::string>>> ReadIndex(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<MappedFile> file, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJsonObject(file->text(), path));
  const auto weight_map = json.find("weight_map");
  if (weight_map == json.end() || !weight_map->is_object() || weight_map->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": weight_map must be an object"));
  }
  std::map<std::string, std::set<std::string>> shards;
  for (const auto& [tensor, shard] : weight_map->items()) {
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    // A plain name: nothing outside of the model's directory is ever opened.
    if (name.empty() || name.find('/') != std::string::npos || name == "." || name == "..") {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": weight_map of ", tensor, " must be a plain file name"));
    }
    shards[name].insert(tensor);
  }
  return shards;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WeightSource>> OpenCheckpoint(const std::string& directory,
                                                             bool tied_embeddings) {
  auto checkpoint = std::make_unique<Checkpoint>(tied_embeddings);
  std::error_code ignored;
  const std::string index_path = absl::StrCat(directory, "/", kIndexFile);
  const std::string single_path = absl::StrCat(directory, "/", kSingleFile);
  if (std::filesystem::exists(single_path, ignored)) {
    RETURN_IF_ERROR(checkpoint->AddFile(single_path, nullptr));
  } else if (std::filesystem::exists(index_path, ignored)) {
    ASSIGN_OR_RETURN(const auto shards, ReadIndex(index_path));
    for (const auto& [name, tensors] : shards) {
      RETURN_IF_ERROR(checkpoint->AddFile(absl::StrCat(directory, "/", name), &tensors));
    }
  } else {
    return absl::NotFoundError(
        absl::StrCat(directory, ": has neither ", kSingleFile, " nor ", kIndexFile));
  }
  return checkpoint;
}

}  // namespace baton
