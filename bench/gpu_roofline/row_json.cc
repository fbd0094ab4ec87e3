#include "bench/gpu_roofline/row_json.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace baton::roofline {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kSuffix[] = ".part.json";

Json RowToJson(const Row& row) {
  return {{"name", row.name},
          {"variant", row.variant},
          {"samples_ms", row.samples_ms},
          {"bytes", row.work.bytes},
          {"flop", row.work.flop},
          {"bus_bytes", row.work.bus_bytes},
          {"target_ms", row.target_ms},
          {"target_share", row.target_share},
          {"error", row.error}};
}

// Throws what the library throws.
Row RowFromJson(const Json& json) {
  Row row;
  row.name = json.at("name").get<std::string>();
  row.variant = json.value("variant", "");
  row.samples_ms = json.value("samples_ms", std::vector<double>());
  row.work = {.bytes = json.value("bytes", 0.0),
              .flop = json.value("flop", 0.0),
              .bus_bytes = json.value("bus_bytes", 0.0)};
  row.target_ms = json.value("target_ms", 0.0);
  row.target_share = json.value("target_share", 0.0);
  row.error = json.value("error", "");
  return row;
}

}  // namespace

std::string PartToJson(const Part& part) {
  Json rows = Json::array();
  for (const Row& row : part.rows) rows.push_back(RowToJson(row));
  const Json json = {{"part", part.name},         {"device", part.device}, {"note", part.note},
                     {"emulated", part.emulated}, {"error", part.error},   {"rows", rows}};
  return json.dump(1);
}

absl::StatusOr<Part> PartFromJson(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    Part part;
    part.name = json.at("part").get<std::string>();
    part.device = json.value("device", "");
    part.note = json.value("note", "");
    part.emulated = json.value("emulated", false);
    part.error = json.value("error", "");
    for (const Json& row : json.value("rows", Json::array())) part.rows.push_back(RowFromJson(row));
    return part;
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text << '\n';
  if (file.flush()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("cannot write ", path));
}

absl::StatusOr<std::vector<Part>> ReadParts(const std::string& directory) {
  std::error_code error;
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (absl::EndsWith(entry.path().string(), kSuffix)) paths.push_back(entry.path());
  }
  if (error) {
    return absl::NotFoundError(absl::StrCat(directory, ": ", error.message()));
  }
  std::ranges::sort(paths);
  std::vector<Part> parts;
  for (const std::filesystem::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    absl::StatusOr<Part> part = PartFromJson(text);
    if (!part.ok()) {
      part = Part{.name = path.filename().string(), .error = std::string(part.status().message())};
    }
    parts.push_back(*std::move(part));
  }
  return parts;
}

}  // namespace baton::roofline
