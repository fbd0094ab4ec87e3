#include "engine/model/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/model/json_reader.h"

namespace baton {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the reference reader
constexpr size_t kMaxTensors = 1'000'000;
constexpr size_t kMaxRank = 8;

struct DtypeSize {
  const char* name;
  int64_t bytes;
};
constexpr std::array<DtypeSize, 14> kDtypes = {{{"BOOL", 1},
                                                {"U8", 1},
                                                {"I8", 1},
                                                {"F8_E5M2", 1},
                                                {"F8_E4M3", 1},
                                                {"I16", 2},
                                                {"U16", 2},
                                                {"F16", 2},
                                                {"BF16", 2},
                                                {"I32", 4},
                                                {"U32", 4},
                                                {"F32", 4},
                                                {"F64", 8},
                                                {"I64", 8}}};

struct Entry {
  TensorView view;
  uint64_t begin = 0;
  uint64_t end = 0;
};

absl::StatusOr<uint64_t> ToUnsigned(const nlohmann::json& value, const std::string& where) {
  if (!value.is_number_unsigned()) {
    return absl::InvalidArgumentError(absl::StrCat(where, " must hold whole numbers from 0"));
  }
  return value.get<uint64_t>();
}

// Bytes that `shape` takes, or an error when the product leaves 63 bits.
absl::StatusOr<uint64_t> ShapeBytes(const std::vector<int64_t>& shape, int64_t element_bytes,
                                    const std::string& where) {
  int64_t bytes = element_bytes;
  for (const int64_t size : shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": shape overflows"));
    }
  }
  return static_cast<uint64_t>(bytes);
}

absl::StatusOr<Entry> ParseEntry(const std::string& name, const nlohmann::json& object,
                                 std::string_view file) {
  const std::string where = absl::StrCat(View(file), ": tensor ", name);
  if (!object.is_object())
    return absl::InvalidArgumentError(absl::StrCat(where, ": not an object"));
  const JsonFields fields(object, where);
  Entry entry;
  entry.view.name = name;
  ASSIGN_OR_RETURN(entry.view.dtype, fields.String("dtype"));
  const auto dtype = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const DtypeSize& candidate) {
    return entry.view.dtype == candidate.name;
  });
  if (dtype == kDtypes.end()) {
    return fields.Error("dtype", absl::StrCat("is ", entry.view.dtype, ", which is unknown"));
  }
  const nlohmann::json* shape = fields.Find("shape");
  if (shape == nullptr || !shape->is_array() || shape->size() > kMaxRank) {
    return fields.Error("shape", absl::StrCat("must be a list of at most ", kMaxRank));
  }
  for (const nlohmann::json& size : *shape) {
    ASSIGN_OR_RETURN(const uint64_t value, ToUnsigned(size, absl::StrCat(where, ": shape")));
    if (value > uint64_t{1} << 62) return fields.Error("shape", "overflows");
    entry.view.shape.push_back(static_cast<int64_t>(value));
  }
  const nlohmann::json* offsets = fields.Find("data_offsets");
  if (offsets == nullptr || !offsets->is_array() || offsets->size() != 2) {
    return fields.Error("data_offsets", "must be [begin, end]");
  }
  const std::string offsets_where = absl::StrCat(where, ": data_offsets");
  ASSIGN_OR_RETURN(entry.begin, ToUnsigned((*offsets)[0], offsets_where));
  ASSIGN_OR_RETURN(entry.end, ToUnsigned((*offsets)[1], offsets_where));
  ASSIGN_OR_RETURN(const uint64_t bytes, ShapeBytes(entry.view.shape, dtype->bytes, where));
  if (entry.end < entry.begin || entry.end - entry.begin != bytes) {
    return fields.Error("data_offsets",
                        absl::StrCat("span ", entry.begin, " to ", entry.end,
                                     ", but dtype and shape need ", bytes, " bytes"));
  }
  return entry;
}

// Sorts by offset and checks that the entries cover [0, data.size()) exactly.
absl::Status PlaceEntries(std::span<const std::byte> data, std::string_view where,
                          std::vector<Entry>* entries) {
  std::sort(entries->begin(), entries->end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t covered = 0;
  for (Entry& entry : *entries) {
    if (entry.begin != covered) {
      return absl::InvalidArgumentError(
          absl::StrCat(View(where), ": tensor ", entry.view.name, " starts at byte ", entry.begin,
                       ", ", entry.begin < covered ? "inside of the one before" : "after a hole",
                       " that ends at ", covered));
    }
    if (entry.end > data.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(View(where), ": tensor ", entry.view.name, " ends at byte ", entry.end,
                       " of ", data.size(), " bytes of data (truncated file?)"));
    }
    entry.view.data = data.subspan(entry.begin, entry.end - entry.begin);
    covered = entry.end;
  }
  if (covered != data.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(View(where), ": ", data.size() - covered, " bytes after the last tensor"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<TensorView>> ParseSafetensors(std::span<const std::byte> file,
                                                         std::string_view where) {
  uint64_t header_bytes = 0;
  if (file.size() < sizeof(header_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(View(where), ": ", file.size(), " bytes are too few for a safetensors file"));
  }
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  file = file.subspan(sizeof(header_bytes));
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        View(where), ": header length is ", header_bytes, "; allowed: up to ",
        std::min<uint64_t>(kMaxHeaderBytes, file.size()), " (truncated or not safetensors)"));
  }
  const std::string_view header(reinterpret_cast<const char*>(file.data()), header_bytes);
  const std::string header_where = absl::StrCat(View(where), ": header");
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJsonObject(header, header_where));
  if (json.size() > kMaxTensors) {
    return absl::InvalidArgumentError(
        absl::StrCat(View(where), ": ", json.size(), " tensors; allowed: ", kMaxTensors));
  }
  std::vector<Entry> entries;
  for (const auto& [name, object] : json.items()) {
    if (name == "__metadata__") continue;
    ASSIGN_OR_RETURN(Entry entry, ParseEntry(name, object, where));
    entries.push_back(std::move(entry));
  }
  RETURN_IF_ERROR(PlaceEntries(file.subspan(header_bytes), where, &entries));
  std::vector<TensorView> views;
  views.reserve(entries.size());
  for (Entry& entry : entries) views.push_back(std::move(entry.view));
  return views;
}

}  // namespace baton
