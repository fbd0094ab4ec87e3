#include "engine/tokenizer/chat_template.h"
#include "tests/support/source_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace baton {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

absl::StatusOr<std::string> Render(std::string_view source, std::string_view context = "{}") {
  absl::StatusOr<std::unique_ptr<ChatTemplate>> parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return (*parsed)->Render(context);
}

std::string ParseError(std::string_view source) {
  const absl::Status status = ChatTemplate::Parse(source).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << source;
  return std::string(status.message());
}

std::string RenderError(std::string_view source, std::string_view context = "{}") {
  const auto parsed = ChatTemplate::Parse(source);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  if (!parsed.ok()) return "";
  const absl::Status status = (*parsed)->Render(context).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << source;
  return std::string(status.message());
}

TEST(ChatTemplateTest, WhatIsNotSupportedIsALoadErrorWithItsLine) {
  EXPECT_EQ(ParseError("a\nb\n{% include 'x' %}"),
            "chat template line 3: the statement \"include\" is not supported");
  EXPECT_EQ(ParseError("\n{{ x | urlize }}"),
            "chat template line 2: the filter \"urlize\" is not supported");
  EXPECT_EQ(ParseError("{{ x is escaped }}"),
            "chat template line 1: the test \"escaped\" is not supported");
  EXPECT_EQ(ParseError("\n\n{{ x.format(1) }}"),
            "chat template line 3: the method \"format\" is not supported");
  EXPECT_THAT(ParseError("{% for x in y recursive %}{% endfor %}"), HasSubstr("recursive"));
  EXPECT_THAT(ParseError("{% for x in y %}{% macro m() %}{% endmacro %}{% endfor %}"),
              HasSubstr("macro inside"));
  EXPECT_THAT(ParseError("{{ f(*x) }}"), HasSubstr("\"*\" arguments"));
  EXPECT_THAT(ParseError("{{ {1: 2} }}"), HasSubstr("dict key"));
}

TEST(ChatTemplateTest, SyntaxErrorsNameTheLine) {
  EXPECT_EQ(ParseError("\n{% if x %}\n"),
            "chat template line 2: expected \"endif\", found the end of the template");
  for (const char* source : {"{{ x",
                             "{% if %}{% endif %}",
                             "{{ 1 + }}",
                             "{{ (1 }}",
                             "{{ [1 }}",
                             "{{ 'abc }}",
                             "{# x",
                             "{% raw %}",
                             "{% endif %}",
                             "{% break %}",
                             "{{ a b }}",
                             "{{ x[ }}",
                             "{{ x[1:2:3:4] }}",
                             "{% set = 1 %}",
                             "{% set loop = 1 %}",
                             "{% for in y %}{% endfor %}",
                             "{{ ? }}",
                             "{{ }}",
                             "{% macro m(a=1, b) %}{% endmacro %}",
                             "{{ f(a=1, 2) }}",
                             "{{ 0x1F }}",
                             "{{ 1e999 }}",
                             "{{ 99999999999999999999 }}",
                             "{{ '\\ud800' }}",
                             "{% %}",
                             "{{ x. }}",
                             "\xFF"}) {
    EXPECT_THAT(ParseError(source), StartsWith("chat template")) << source;
  }
}

TEST(ChatTemplateTest, RaisedExceptionsCarryTheTemplatesOwnWords) {
  EXPECT_EQ(RenderError("{{ raise_exception('Roles must alternate') }}"), "Roles must alternate");
}

TEST(ChatTemplateTest, RenderErrorsNameTheLine) {
  EXPECT_EQ(RenderError("\n{{ x.y }}"), "chat template line 2: 'x' is undefined");
  EXPECT_THAT(RenderError("{{ 'a' + 1 }}"), HasSubstr("operator + does not take str and int"));
  EXPECT_THAT(RenderError("{{ f() }}"), HasSubstr("'f' is undefined"));
  EXPECT_THAT(RenderError("{{ 1 // 0 }}"), HasSubstr("division by zero"));
  EXPECT_THAT(RenderError("{{ 9223372036854775807 + 1 }}"), HasSubstr("64 bits"));
  EXPECT_THAT(RenderError("{% set x = 1 %}{% set x.y = 2 %}"), HasSubstr("not a namespace"));
  EXPECT_THAT(RenderError("{% for a, b in [[1]] %}{% endfor %}"), HasSubstr("cannot unpack"));
  EXPECT_THAT(RenderError("{{ namespace }}"), HasSubstr("cannot be printed"));
}

TEST(ChatTemplateTest, BadContextsAreErrors) {
  for (const std::string& context :
       {std::string(), std::string("[]"), std::string("{"), std::string("{\"a\": \"\xFF\"}"),
        std::string("{\"a\": 99999999999999999999}"), "{\"a\": " + std::string(100'000, '[')}) {
    EXPECT_THAT(RenderError("x", context), StartsWith("chat template context")) << context.size();
  }
}

TEST(ChatTemplateTest, RunawayTemplatesEndWithAnError) {
  const std::string loop10 = "{% for a in range(100000) %}";
  EXPECT_THAT(RenderError(loop10 + loop10 + "{% endfor %}{% endfor %}"), HasSubstr("steps"));
  EXPECT_THAT(RenderError("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
              HasSubstr("too deeply"));
  std::string nots;
  for (int i = 0; i < 100; ++i) nots += "not ";
  EXPECT_THAT(RenderError("{% macro m() %}{{ " + nots + "m() }}{% endmacro %}{{ m() }}"),
              HasSubstr("too deeply"));
  EXPECT_THAT(RenderError("{{ 'x' * 999999999999 }}"), HasSubstr("longer than"));
  EXPECT_THAT(RenderError("{{ [1] * 999999999999 }}"), HasSubstr("longer than"));
  EXPECT_THAT(RenderError("{{ range(999999999999) }}"), HasSubstr("range"));
  EXPECT_THAT(RenderError("{% set n = namespace(s='x') %}{% for i in range(100) %}"
                          "{% set n.s = n.s + n.s %}{% endfor %}"),
              HasSubstr("longer than"));
  EXPECT_THAT(RenderError("{% set n = namespace(l=[]) %}{% for i in range(1000) %}"
                          "{% set n.l = [n.l] %}{% endfor %}"),
              HasSubstr("nested too deeply"));
  EXPECT_THAT(RenderError("{% for i in range(100000) %}{% set n = namespace() %}{% endfor %}"),
              HasSubstr("namespaces"));
  EXPECT_THAT(RenderError("{% set t = 'ab' * 1000000 %}{% for i in range(100000) %}"
                          "{% set x = t.replace('a', 'ccc') %}{% endfor %}"),
              HasSubstr("too much text"));
}

TEST(ChatTemplateTest, DeeplyNestedSourceIsAnErrorNotACrash) {
  const auto repeat = [](const std::string& unit, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += unit;
    return out;
  };
  for (const std::string& source :
       {"{{ " + repeat("(", 50'000) + repeat(")", 50'000) + " }}",
        "{{ " + repeat("[", 50'000) + repeat("]", 50'000) + " }}",
        "{{ " + repeat("-", 50'000) + "1 }}", "{{ " + repeat("1 + ", 50'000) + "1 }}",
        "{{ x" + repeat("|trim", 50'000) + " }}", "{{ x" + repeat(".a", 50'000) + " }}",
        "{{ x" + repeat("()", 50'000) + " }}", "{{ " + repeat("not ", 50'000) + "x }}",
        repeat("{% if x %}", 50'000), "{{ " + repeat("1 if ", 50'000) + "1 }}",
        "{{ x" + repeat(" is defined", 50'000) + "}}"}) {
    EXPECT_THAT(ParseError(source), HasSubstr("nested too deeply")) << source.substr(0, 20);
  }
}

TEST(ChatTemplateTest, TimeComesFromTheContextOnly) {
  const char* source = "{{ strftime_now('%d %b %Y') if strftime_now is defined else 'none' }}";
  EXPECT_EQ(*Render(source), "none");
  EXPECT_EQ(*Render(source, R"({"current_time_unix_s": 1717761845})"), "07 Jun 2024");
  EXPECT_EQ(*Render(source, R"({"current_time_unix_s": -1})"), "31 Dec 1969");
  EXPECT_THAT(RenderError("{{ strftime_now('%d') }}"), HasSubstr("current_time_unix_s"));
  EXPECT_THAT(RenderError("{{ strftime_now('%Q') }}", R"({"current_time_unix_s": 0})"),
              HasSubstr("format"));
  EXPECT_THAT(RenderError("{{ strftime_now('%d') }}", R"({"current_time_unix_s": 1e300})"),
              HasSubstr("range"));
}

class ChatTemplateLoadTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/chat_template_" +
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
  }
  std::string folder_;
};

TEST_F(ChatTemplateLoadTest, TheFileWinsOverTheConfigAndTheConfigGivesSpecialTokens) {
  Write("tokenizer_config.json",
        R"({"chat_template": "config {{ bos_token }}", "bos_token": {"content": "<s>"},
            "eos_token": "</s>", "pad_token": null})");
  EXPECT_EQ(*(*ChatTemplate::Load(folder_))->Render("{}"), "config <s>");
  Write("chat_template.jinja", "file {{ bos_token }}{{ eos_token }}{{ pad_token is defined }}");
  const auto loaded = ChatTemplate::Load(folder_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(*(*loaded)->Render("{}"), "file <s></s>False");
  EXPECT_EQ(*(*loaded)->Render(R"({"bos_token": "[B]"})"), "file [B]</s>False");
}

TEST_F(ChatTemplateLoadTest, OfNamedTemplatesTheDefaultIsTaken) {
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "tools"},
                                                        {"name": "default", "template": "plain"}]})");
  EXPECT_EQ(*(*ChatTemplate::Load(folder_))->Render("{}"), "plain");
}

TEST_F(ChatTemplateLoadTest, NoTemplateIsNotFoundAndABadOneNamesTheFile) {
  EXPECT_EQ(ChatTemplate::Load(folder_).status().code(), absl::StatusCode::kNotFound);
  Write("tokenizer_config.json", "{}");
  EXPECT_EQ(ChatTemplate::Load(folder_).status().code(), absl::StatusCode::kNotFound);
  Write("chat_template.jinja", "{% if %}");
  const absl::Status status = ChatTemplate::Load(folder_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("chat_template.jinja"));
  Write("chat_template.jinja", std::string(2'000'000, 'x'));
  EXPECT_EQ(ChatTemplate::Load(folder_).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ChatTemplateDemoTest, TheDemoModelsTemplateRendersAConversation) {
  const auto loaded = ChatTemplate::Load(SourceDir() + "/models/demo");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const auto text = (*loaded)->Render(
      R"({"messages": [{"role": "user", "content": "Hello"}], "add_generation_prompt": true})");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_THAT(*text, HasSubstr("user"));
  EXPECT_THAT(*text, HasSubstr("Hello"));
  EXPECT_THAT(*text, testing::EndsWith("assistant\n"));
}

}  // namespace
}  // namespace baton
