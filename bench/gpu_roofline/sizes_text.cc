// Names of sizes, and sizes as JSON: from our program to its peers.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "bench/gpu_roofline/sizes.h"

namespace baton::roofline {
namespace {

using Json = nlohmann::ordered_json;

Json ShapeToJson(const AttentionShape& shape) {
  return {{"name", shape.name},        {"sequences", shape.sequences}, {"context", shape.context},
          {"tokens", shape.tokens},    {"heads", shape.heads},         {"kv_heads", shape.kv_heads},
          {"head_dim", shape.head_dim}};
}

// Throws what the library throws.
AttentionShape ShapeFromJson(const Json& json) {
  return {.name = json.at("name").get<std::string>(),
          .sequences = json.at("sequences").get<int32_t>(),
          .context = json.at("context").get<int32_t>(),
          .tokens = json.at("tokens").get<int32_t>(),
          .heads = json.at("heads").get<int32_t>(),
          .kv_heads = json.at("kv_heads").get<int32_t>(),
          .head_dim = json.at("head_dim").get<int32_t>()};
}

}  // namespace

std::string Grouped(int32_t number) {
  std::string digits = std::to_string(number);
  for (size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

std::string ProductName(const MatrixShapes& matrix, int32_t rows) {
  return absl::StrCat(matrix.name, " ", Grouped(rows), " x ", Grouped(matrix.k), " x ",
                      Grouped(matrix.n));
}

std::string SizesJson(const Sizes& sizes) {
  const DecoderSizes& d = sizes.decoder;
  Json steps = Json::array();
  for (const StepShape& step : sizes.steps) {
    steps.push_back({{"name", step.name},
                     {"sequences", step.sequences},
                     {"context", step.context},
                     {"tokens", step.tokens}});
  }
  Json attention = Json::array();
  for (const AttentionShape& shape : sizes.attention) attention.push_back(ShapeToJson(shape));
  Json products = Json::array();
  for (const MatrixShapes& matrix : sizes.matrices) {
    for (const int32_t rows : matrix.rows) {
      products.push_back(
          {{"name", ProductName(matrix, rows)}, {"m", rows}, {"n", matrix.n}, {"k", matrix.k}});
    }
  }
  const Json decoder = {{"hidden", d.hidden},    {"intermediate", d.intermediate},
                        {"layers", d.layers},    {"vocab", d.vocab},
                        {"heads", d.heads},      {"kv_heads", d.kv_heads},
                        {"head_dim", d.head_dim}};
  return Json{{"decoder", decoder},
              {"steps", steps},
              {"attention", attention},
              {"products", products},
              {"warm_up_ms", sizes.warm_up_ms},
              {"repeats", sizes.repeats},
              {"sample_ms", sizes.sample_ms},
              {"flushed_bytes", sizes.flushed_bytes}}
      .dump(1);
}

absl::StatusOr<Sizes> AttentionSizesFromJson(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    Sizes sizes;
    for (const Json& shape : json.at("attention")) sizes.attention.push_back(ShapeFromJson(shape));
    sizes.warm_up_ms = json.at("warm_up_ms").get<double>();
    sizes.repeats = json.at("repeats").get<int32_t>();
    sizes.sample_ms = json.at("sample_ms").get<double>();
    sizes.flushed_bytes = json.at("flushed_bytes").get<size_t>();
    return sizes;
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

}  // namespace baton::roofline
