#include "cli/front_model.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "engine/model/model_config.h"
#include "engine/tokenizer/dummy_tokenizer.h"

namespace baton {
namespace {

namespace fs = std::filesystem;

constexpr char kDummyPrefix[] = "dummy:";

absl::StatusOr<std::string> ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path.string()));
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

absl::StatusOr<ModelConfig> ReadConfig(const fs::path& config_path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(config_path));
  ASSIGN_OR_RETURN(ModelConfig config, ParseModelConfig(text, config_path.string()));
  const fs::path generation = config_path.parent_path() / "generation_config.json";
  if (fs::exists(generation)) {
    ASSIGN_OR_RETURN(const std::string json, ReadFile(generation));
    RETURN_IF_ERROR(ApplyGenerationConfig(json, generation.string(), &config));
  }
  return config;
}

}  // namespace

absl::StatusOr<FrontModel> LoadFrontModel(const std::string& model,
                                          const std::string& served_name) {
  const bool dummy = model.starts_with(kDummyPrefix);
  const fs::path config_path =
      dummy ? fs::path(model.substr(sizeof(kDummyPrefix) - 1)) : fs::path(model) / "config.json";
  fs::path directory = config_path.parent_path();
  if (directory.empty()) directory = ".";
  FrontModel front;
  front.root = model;
  front.name = served_name;
  if (front.name.empty()) {
    front.name =
        dummy ? config_path.stem().string() : fs::weakly_canonical(directory).filename().string();
  }
  ASSIGN_OR_RETURN(const ModelConfig config, ReadConfig(config_path));
  front.eos_tokens = config.eos_tokens;
  if (dummy && !fs::exists(directory / "tokenizer.json")) {
    front.tokenizer = MakeDummyTokenizer(config.vocab_size);
    return front;
  }
  ASSIGN_OR_RETURN(front.tokenizer, Tokenizer::Load(directory.string()));
  auto chat_template = ChatTemplate::Load(directory.string());
  if (chat_template.ok()) {
    front.chat_template = *std::move(chat_template);
  } else if (!absl::IsNotFound(chat_template.status())) {
    return chat_template.status();
  }
  return front;
}

}  // namespace baton
