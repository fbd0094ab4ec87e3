#include "engine/tokenizer/chat_template.h"

#include <fstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/tokenizer/jinja/json.h"
#include "engine/tokenizer/jinja/template.h"
#include "engine/tokenizer/json_field.h"
#include "engine/tokenizer/unicode/utf8.h"

namespace baton {
namespace {

constexpr size_t kMaxConfigFileBytes = size_t{16} << 20;
constexpr const char* kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "pad_token"};

// "chat_template" is the template, or a list of named ones, of which "default" is taken.
absl::StatusOr<std::string> TemplateOfConfig(const JsonField& config) {
  const std::optional<JsonField> field = config.Find("chat_template");
  if (!field) return absl::NotFoundError("the model has no chat template");
  if (!field->node().is_array()) return field->String();
  ASSIGN_OR_RETURN(const std::vector<JsonField> elements, field->Elements());
  for (const JsonField& element : elements) {
    ASSIGN_OR_RETURN(const std::string name, element.GetString("name"));
    if (name == "default") return element.GetString("template");
  }
  return field->Error("has no template named \"default\"");
}

// The special tokens that the config names, as variables for the template.
absl::StatusOr<jinja::Dict> VariablesOfConfig(const JsonField& config) {
  jinja::Dict variables;
  for (const char* key : kSpecialTokens) {
    const std::optional<JsonField> field = config.Find(key);
    if (!field) continue;
    ASSIGN_OR_RETURN(std::string text,
                     field->node().is_object() ? field->GetString("content") : field->String());
    variables.Set(key, jinja::Value::String(std::move(text)));
  }
  return variables;
}

}  // namespace

struct ChatTemplate::Impl {
  std::unique_ptr<jinja::Template> parsed;
  jinja::Dict variables;  // what the context need not give
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Parse(std::string_view source) {
  auto impl = std::make_unique<Impl>();
  ASSIGN_OR_RETURN(impl->parsed, jinja::Template::Parse(source));
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(impl)));
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Load(const std::string& model_dir) {
  std::string path = absl::StrCat(model_dir, "/chat_template.jinja");
  const std::string config_path = absl::StrCat(model_dir, "/tokenizer_config.json");
  std::string source;
  jinja::Dict variables;
  std::ifstream in(path, std::ios::binary);
  const bool has_file = in.good();
  if (has_file) {
    // One byte more than Parse allows is enough for it to refuse a larger file.
    source.resize(jinja::kMaxTemplateBytes + 1);
    in.read(source.data(), static_cast<std::streamsize>(source.size()));
    source.resize(static_cast<size_t>(in.gcount()));
  }

  absl::StatusOr<nlohmann::json> config = ReadJsonFile(config_path, kMaxConfigFileBytes);
  if (config.ok()) {
    const JsonField top(*config, config_path);
    RETURN_IF_ERROR(top.ExpectObject());
    ASSIGN_OR_RETURN(variables, VariablesOfConfig(top));
    if (!has_file) {
      path = config_path;
      ASSIGN_OR_RETURN(source, TemplateOfConfig(top));
    }
  } else if (!absl::IsNotFound(config.status())) {
    return config.status();
  } else if (!has_file) {
    return absl::NotFoundError(absl::StrCat(model_dir, ": the model has no chat template"));
  }

  absl::StatusOr<std::unique_ptr<ChatTemplate>> loaded = Parse(source);
  if (!loaded.ok()) {
    return absl::Status(loaded.status().code(),
                        absl::StrCat(path, ": ", loaded.status().message()));
  }
  (*loaded)->impl_->variables = std::move(variables);
  return loaded;
}

absl::StatusOr<std::string> ChatTemplate::Render(std::string_view context_json) const {
  ASSIGN_OR_RETURN(const jinja::Value context, jinja::ParseJson(context_json));
  if (!context.IsDict()) {
    return absl::InvalidArgumentError("chat template context: must be an object");
  }
  jinja::Dict variables = impl_->variables;
  for (const auto& [key, value] : context.dict().entries()) variables.Set(key, value);
  return impl_->parsed->Render(jinja::Value::NewDict(std::move(variables)));
}

}  // namespace baton
