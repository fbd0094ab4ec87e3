#include "engine/model/model_config.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/check.h"
#include "common/strings.h"
#include "engine/kernels/paged_attention.h"
#include "engine/model/json_reader.h"

namespace baton {
namespace {

constexpr int64_t kMaxSize = 1 << 20;  // hidden, intermediate
constexpr int64_t kMaxHeads = 1 << 12;
constexpr int64_t kMaxLayers = 1 << 12;
constexpr int64_t kMaxVocabulary = 1 << 22;
constexpr int64_t kMaxPositions = 1 << 24;

struct Family {
  const char* architecture;
  bool qkv_bias;        // always, whatever attention_bias says
  bool attention_bias;  // the field exists
  bool mlp_bias;        // the field exists
  bool qk_norm;
  bool kv_heads_optional;  // num_key_value_heads defaults to the number of heads
  bool optional_window;    // sliding_window counts only with use_sliding_window
  bool window;             // has sliding_window at all
};

constexpr Family kFamilies[] = {
    {.architecture = "LlamaForCausalLM",
     .qkv_bias = false,
     .attention_bias = true,
     .mlp_bias = true,
     .qk_norm = false,
     .kv_heads_optional = true,
     .optional_window = false,
     .window = false},
    {.architecture = "MistralForCausalLM",
     .qkv_bias = false,
     .attention_bias = false,
     .mlp_bias = false,
     .qk_norm = false,
     .kv_heads_optional = false,
     .optional_window = false,
     .window = true},
    {.architecture = "Qwen2ForCausalLM",
     .qkv_bias = true,
     .attention_bias = false,
     .mlp_bias = false,
     .qk_norm = false,
     .kv_heads_optional = false,
     .optional_window = true,
     .window = true},
    {.architecture = "Qwen3ForCausalLM",
     .qkv_bias = false,
     .attention_bias = true,
     .mlp_bias = false,
     .qk_norm = true,
     .kv_heads_optional = false,
     .optional_window = true,
     .window = true},
};

absl::StatusOr<const Family*> FindFamily(const JsonFields& fields) {
  const nlohmann::json* list = fields.Find("architectures");
  if (list == nullptr || !list->is_array() || list->size() != 1 || !list->front().is_string()) {
    return fields.Error("architectures", "must be a list of one name");
  }
  const auto& name = list->front().get_ref<const std::string&>();
  std::vector<std::string> known;
  for (const Family& family : kFamilies) {
    if (name == family.architecture) return &family;
    known.emplace_back(family.architecture);
  }
  return absl::UnimplementedError(
      std::string(fields
                      .Error("architectures",
                             absl::StrCat("is ", name, "; supported: ", absl::StrJoin(known, ", ")))
                      .message()));
}

absl::Status Unsupported(const JsonFields& fields, const char* name, std::string_view what) {
  return absl::UnimplementedError(std::string(fields.Error(name, what).message()));
}

absl::Status ParseSizes(const JsonFields& fields, const Family& family, ModelConfig* config) {
  ASSIGN_OR_RETURN(config->hidden_size, fields.Int("hidden_size", 2, kMaxSize));
  ASSIGN_OR_RETURN(config->intermediate_size, fields.Int("intermediate_size", 2, kMaxSize));
  ASSIGN_OR_RETURN(config->num_layers, fields.Int("num_hidden_layers", 1, kMaxLayers));
  ASSIGN_OR_RETURN(config->num_heads, fields.Int("num_attention_heads", 1, kMaxHeads));
  ASSIGN_OR_RETURN(config->vocab_size, fields.Int("vocab_size", 1, kMaxVocabulary));
  ASSIGN_OR_RETURN(config->max_positions, fields.Int("max_position_embeddings", 1, kMaxPositions));
  std::optional<int64_t> kv_heads;
  if (family.kv_heads_optional) kv_heads = config->num_heads;
  ASSIGN_OR_RETURN(config->num_kv_heads,
                   fields.Int("num_key_value_heads", 1, config->num_heads, kv_heads));
  if (config->num_heads % config->num_kv_heads != 0) {
    return fields.Error(
        "num_key_value_heads",
        absl::StrCat("is ", config->num_kv_heads, "; must divide num_attention_heads, which is ",
                     config->num_heads));
  }
  for (const auto& [name, size] : {std::pair("hidden_size", config->hidden_size),
                                   std::pair("intermediate_size", config->intermediate_size)}) {
    if (size % 2 != 0) return fields.Error(name, absl::StrCat("is ", size, "; must be even"));
  }
  if (!fields.Has("head_dim") && config->hidden_size % config->num_heads != 0) {
    return fields.Error("head_dim", "is missing, and hidden_size is not a multiple of heads");
  }
  ASSIGN_OR_RETURN(config->head_dim,
                   fields.Int("head_dim", 1, kMaxHeadDim, config->hidden_size / config->num_heads));
  if (config->head_dim % 8 != 0 || config->head_dim < 8 || config->head_dim > kMaxHeadDim) {
    return Unsupported(
        fields, "head_dim",
        absl::StrCat("is ", config->head_dim, "; supported: multiples of 8 to ", kMaxHeadDim));
  }
  return absl::OkStatus();
}

absl::Status ParseWindows(const JsonFields& fields, const Family& family, ModelConfig* config) {
  config->windows.assign(static_cast<size_t>(config->num_layers), 0);
  if (!family.window) return absl::OkStatus();
  ASSIGN_OR_RETURN(const bool used,
                   fields.Bool("use_sliding_window", /*otherwise=*/!family.optional_window));
  if (!used && family.optional_window) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int64_t window, fields.Int("sliding_window", 1, kMaxPositions, 0));
  const nlohmann::json* types = fields.Find("layer_types");
  if (types != nullptr && family.optional_window) {
    if (!types->is_array() || types->size() != config->windows.size()) {
      return fields.Error("layer_types",
                          absl::StrCat("must be a list of ", config->num_layers, " names"));
    }
    for (size_t layer = 0; layer < types->size(); ++layer) {
      const nlohmann::json& type = (*types)[layer];
      if (type == "full_attention") continue;
      if (type != "sliding_attention") {
        return Unsupported(fields, "layer_types",
                           "may hold full_attention and sliding_attention only");
      }
      config->windows[layer] = static_cast<int32_t>(window);
    }
    return absl::OkStatus();
  }
  int64_t first = 0;
  if (family.optional_window) {
    ASSIGN_OR_RETURN(first, fields.Int("max_window_layers", 0, kMaxLayers, 0));
  }
  for (auto layer = static_cast<size_t>(first); layer < config->windows.size(); ++layer) {
    config->windows[layer] = static_cast<int32_t>(window);
  }
  return absl::OkStatus();
}

absl::Status ParseRopeScaling(const JsonFields& fields, RopeConfig* rope) {
  const char* type_name = fields.Has("rope_type") ? "rope_type" : "type";
  ASSIGN_OR_RETURN(const std::string type, fields.String(type_name, "default"));
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3") {
    return Unsupported(fields, type_name,
                       absl::StrCat("is ", type, "; supported: default, linear, llama3"));
  }
  rope->type = type == "linear" ? RopeType::kLinear : RopeType::kLlama3;
  ASSIGN_OR_RETURN(rope->factor, fields.Number("factor", 1.0, 1e6));
  if (rope->type == RopeType::kLinear) return absl::OkStatus();
  ASSIGN_OR_RETURN(rope->low_freq_factor, fields.Number("low_freq_factor", 1e-3, 1e6));
  ASSIGN_OR_RETURN(rope->high_freq_factor, fields.Number("high_freq_factor", 1e-3, 1e6));
  if (rope->high_freq_factor <= rope->low_freq_factor) {
    return fields.Error("high_freq_factor", "must be above low_freq_factor");
  }
  ASSIGN_OR_RETURN(rope->original_max_positions,
                   fields.Int("original_max_position_embeddings", 1, kMaxPositions));
  return absl::OkStatus();
}

// transformers 5 writes everything into rope_parameters; before, rope_theta stood beside
// rope_scaling.
absl::Status ParseRope(const JsonFields& fields, std::string_view where, RopeConfig* rope) {
  ASSIGN_OR_RETURN(rope->theta, fields.Number("rope_theta", 1.0, 1e12, 10000.0));
  ASSIGN_OR_RETURN(const double partial, fields.Number("partial_rotary_factor", 0.0, 1.0, 1.0));
  if (partial != 1.0) return Unsupported(fields, "partial_rotary_factor", "other than 1");
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const nlohmann::json* object = fields.Find(name);
    if (object == nullptr) continue;
    if (!object->is_object()) return fields.Error(name, "must be an object");
    const std::string inner_where = absl::StrCat(View(where), ": ", name);
    const JsonFields inner(*object, inner_where);
    ASSIGN_OR_RETURN(rope->theta, inner.Number("rope_theta", 1.0, 1e12, rope->theta));
    RETURN_IF_ERROR(ParseRopeScaling(inner, rope));
  }
  return absl::OkStatus();
}

absl::Status CheckVariant(const JsonFields& fields) {
  ASSIGN_OR_RETURN(const std::string activation, fields.String("hidden_act", "silu"));
  if (activation != "silu") {
    return Unsupported(fields, "hidden_act", absl::StrCat("is ", activation, "; supported: silu"));
  }
  if (fields.Has("quantization_config")) {
    return Unsupported(fields, "quantization_config", "is set; supported: bf16, f16, f32 weights");
  }
  return absl::OkStatus();
}

absl::Status ParseEosTokens(const JsonFields& fields, ModelConfig* config) {
  const nlohmann::json* value = fields.Find("eos_token_id");
  if (value == nullptr) return absl::OkStatus();
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  std::vector<TokenId> tokens;
  for (const nlohmann::json& token : list) {
    if (!token.is_number_integer() || token.get<double>() < 0 ||
        token.get<double>() >= config->vocab_size) {
      return fields.Error("eos_token_id",
                          absl::StrCat("must hold tokens from 0 to ", config->vocab_size - 1));
    }
    tokens.push_back(token.get<TokenId>());
  }
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  config->eos_tokens = std::move(tokens);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json, std::string_view where) {
  ASSIGN_OR_RETURN(const nlohmann::json object, ParseJsonObject(json, where));
  const JsonFields fields(object, where);
  ASSIGN_OR_RETURN(const Family* family, FindFamily(fields));
  RETURN_IF_ERROR(CheckVariant(fields));
  ModelConfig config;
  config.architecture = family->architecture;
  RETURN_IF_ERROR(ParseSizes(fields, *family, &config));
  ASSIGN_OR_RETURN(const double epsilon, fields.Number("rms_norm_eps", 0.0, 1.0, 1e-6));
  config.rms_norm_eps = static_cast<float>(epsilon);
  ASSIGN_OR_RETURN(config.tied_embeddings, fields.Bool("tie_word_embeddings", false));
  config.qk_norm = family->qk_norm;
  config.qkv_bias = family->qkv_bias;
  if (family->attention_bias) {
    ASSIGN_OR_RETURN(config.qkv_bias, fields.Bool("attention_bias", false));
    config.output_bias = config.qkv_bias;
  }
  if (family->mlp_bias) {
    ASSIGN_OR_RETURN(config.mlp_bias, fields.Bool("mlp_bias", false));
  }
  RETURN_IF_ERROR(ParseWindows(fields, *family, &config));
  RETURN_IF_ERROR(ParseRope(fields, where, &config.rope));
  RETURN_IF_ERROR(ParseEosTokens(fields, &config));
  return config;
}

absl::Status ApplyGenerationConfig(std::string_view json, std::string_view where,
                                   ModelConfig* config) {
  ASSIGN_OR_RETURN(const nlohmann::json object, ParseJsonObject(json, where));
  return ParseEosTokens(JsonFields(object, where), config);
}

int64_t ModelConfig::NumParameters() const {
  const int64_t hidden = hidden_size;
  const int64_t inner = intermediate_size;
  const int64_t qkv = QSize() + 2 * KvSize();
  int64_t layer = hidden * (qkv + QSize() + 3 * inner + 2);  // 2: norms
  if (qkv_bias) layer += qkv;
  if (output_bias) layer += hidden;
  if (mlp_bias) layer += 2 * inner + hidden;
  if (qk_norm) layer += 2 * head_dim;
  const int64_t tables = (tied_embeddings ? 1 : 2) * hidden * vocab_size;
  return tables + num_layers * layer + hidden;
}

std::string ModelConfig::Canonical() const {
  std::string text = absl::StrFormat(
      "%s hidden=%d intermediate=%d layers=%d heads=%d/%d head_dim=%d vocab=%d eps=%.9g tied=%d "
      "bias=%d%d%d qk_norm=%d rope=%d theta=%.17g factor=%.17g low=%.17g high=%.17g original=%d "
      "windows=",
      architecture, hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim,
      vocab_size, rms_norm_eps, tied_embeddings, qkv_bias, output_bias, mlp_bias, qk_norm,
      static_cast<int>(rope.type), rope.theta, rope.factor, rope.low_freq_factor,
      rope.high_freq_factor, rope.original_max_positions);
  absl::StrAppend(&text, absl::StrJoin(windows, ","));
  return text;
}

}  // namespace baton
