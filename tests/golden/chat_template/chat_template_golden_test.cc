// What Jinja, set up as transformers does, says to the same templates: make_goldens.py wrote it.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "engine/tokenizer/chat_template.h"
#include "nlohmann/json.hpp"
#include "tests/support/source_dir.h"

namespace baton {
namespace {

using nlohmann::ordered_json;

const std::string kFolder = SourceDir() + "/tests/golden/chat_template/";

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(ChatTemplateGoldenTest, RendersEveryCaseAsJinjaDoes) {
  const ordered_json golden = ordered_json::parse(ReadFile(kFolder + "cases.json"));
  ASSERT_GT(golden["cases"].size(), 300u);
  std::map<std::string, std::unique_ptr<ChatTemplate>> templates;
  for (const ordered_json& expected : golden["cases"]) {
    const auto name = expected["template"].get<std::string>();
    const auto context = expected["context"].get<std::string>();
    SCOPED_TRACE(name + " with " + context);
    if (!templates.contains(name)) {
      absl::StatusOr<std::unique_ptr<ChatTemplate>> parsed =
          ChatTemplate::Parse(ReadFile(kFolder + "templates/" + name + ".jinja"));
      ASSERT_TRUE(parsed.ok()) << parsed.status();
      templates[name] = *std::move(parsed);
    }
    const absl::StatusOr<std::string> text =
        templates[name]->Render(golden["contexts"][context].dump());
    if (!expected.contains("error")) {
      EXPECT_TRUE(text.ok()) << text.status();
      EXPECT_EQ(text.value_or(""), expected["text"].get<std::string>());
      continue;
    }
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
    const auto message = expected["error"].get<std::string>();
    if (message.empty()) {  // Jinja's own error: the words are ours
      EXPECT_TRUE(std::string(text.status().message()).starts_with("chat template line "))
          << text.status();
    } else {  // raise_exception: the template's words
      EXPECT_EQ(text.status().message(), message);
    }
  }
}

}  // namespace
}  // namespace baton
