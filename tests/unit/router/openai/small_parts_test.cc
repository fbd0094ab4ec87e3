// JSON writing, UTF-8, error mapping, small answers, and a seeded smoke of hostile bodies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "router/front/context.h"
#include "router/front/utf8.h"
#include "router/openai/api_error.h"
#include "router/openai/cluster_json.h"
#include "router/openai/json_writer.h"
#include "router/openai/server_info.h"
#include "tests/unit/router/openai/parse_fixture.h"

namespace baton {
namespace {

using nlohmann::json;

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

TEST(JsonWriter, EscapesWhatJsonForbids) {
  EXPECT_EQ(Quoted("a\"b\\c\n\r\t\x01\x1f"), R"("a\"b\\c\n\r\t\u0001\u001f")");
  EXPECT_EQ(Quoted("é€😀"), "\"é€😀\"");
  EXPECT_EQ(Quoted(std::string_view("\0", 1)), R"("\u0000")");
}

TEST(JsonWriter, NeverEmitsInvalidUtf8) {
  EXPECT_EQ(Quoted("a\xff"
                   "b"),
            "\"a\uFFFD"
            "b\"");
  EXPECT_EQ(Quoted("\xe2\x82"), "\"\uFFFD\uFFFD\"");
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random() % 24, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    const std::string out = Quoted(bytes);
    EXPECT_EQ(FirstInvalidUtf8(out), out.size());
    EXPECT_TRUE(json::parse(out, nullptr, false).is_string()) << "seed 7, round " << i;
  }
}

TEST(JsonWriter, NumbersReadBackEqual) {
  for (const double value : {0.0, -1.5, 1e-7, 123456789.125, 1e300}) {
    std::string out;
    AppendDouble(out, value);
    EXPECT_EQ(json::parse(out).get<double>(), value);
  }
  std::string out;
  AppendFloat(out, std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(out, "-9999");
}

TEST(Utf8, FindsTheFirstBadByte) {
  EXPECT_EQ(FirstInvalidUtf8("plain é€😀"), std::string_view("plain é€😀").size());
  EXPECT_EQ(FirstInvalidUtf8("ab\x80"), 2u);
  EXPECT_EQ(FirstInvalidUtf8("a\xc0\xaf"), 1u) << "overlong";
  EXPECT_EQ(FirstInvalidUtf8("a\xed\xa0\x80"), 1u) << "surrogate";
  EXPECT_EQ(FirstInvalidUtf8("a\xf4\x90\x80\x80"), 1u) << "above U+10FFFF";
  EXPECT_EQ(FirstInvalidUtf8("a\xe2\x82"), 1u) << "cut short";
  EXPECT_EQ(CountCodePoints("aé€😀"), 4);
}

TEST(ErrorMap, EveryRouterErrorHasItsStatus) {
  const std::tuple<RequestErrorCode, int, const char*> rows[] = {
      {RequestErrorCode::kInvalid, 400, ""},
      {RequestErrorCode::kContextLength, 400, "context_length_exceeded"},
      {RequestErrorCode::kNeverFits, 400, "never_fits"},
      {RequestErrorCode::kOverloaded, 429, "overloaded"},
      {RequestErrorCode::kNoWorkers, 503, "no_workers"},
      {RequestErrorCode::kPrefillLost, 503, "prefill_lost"},
      {RequestErrorCode::kDecodeLost, 503, "decode_lost"},
      {RequestErrorCode::kKvExhausted, 503, "kv_exhausted"},
      {RequestErrorCode::kDraining, 503, "draining"},
      {RequestErrorCode::kQuarantined, 500, "request_quarantined"},
      {RequestErrorCode::kDeadline, 504, "deadline_exceeded"},
      {RequestErrorCode::kInternal, 500, "internal_error"},
      {RequestErrorCode::kAborted, 499, "aborted"}};
  for (const auto& [code, status, name] : rows) {
    const ApiError error = FromRequestError({code, "why"});
    EXPECT_EQ(error.http_status, status) << name;
    EXPECT_EQ(error.code, name);
    EXPECT_EQ(error.message, "why");
  }
}

TEST(ErrorMap, OverloadAlwaysSaysWhenToComeBack) {
  EXPECT_EQ(FromRequestError({RequestErrorCode::kOverloaded, ""}).retry_after_s, 1);
  EXPECT_EQ(
      FromRequestError({RequestErrorCode::kOverloaded, "", absl::Milliseconds(2300)}).retry_after_s,
      3);
}

TEST(ErrorMap, ErrorsRenderWithAllFourFields) {
  EXPECT_EQ(RenderError(InvalidField("n", "bad \"n\"")),
            R"({"error":{"message":"bad \"n\"","type":"invalid_request_error","param":"n",)"
            R"("code":null}})");
}

TEST(ServerInfo, ModelEntriesHaveWhatToolsRead) {
  const json list = json::parse(RenderModelList(
      {.name = "demo", .root = "models/demo", .max_model_len = 64, .created_unix_s = 5}));
  EXPECT_EQ(list["object"], "list");
  EXPECT_EQ(list["data"][0], (json{{"id", "demo"},
                                   {"object", "model"},
                                   {"created", 5},
                                   {"owned_by", "baton"},
                                   {"root", "models/demo"},
                                   {"parent", nullptr},
                                   {"max_model_len", 64},
                                   {"vocab_size", 0}}));
  EXPECT_EQ(RenderReadiness({ReadyPhase::kLoading, "waiting"}),
            R"({"status":"loading","detail":"waiting"})");
}

TEST(Context, TheAnswerGetsExactlyWhatIsLeft) {
  EXPECT_EQ(FitContext({.prompt_tokens = 60, .max_tokens = 4, .max_model_len = 64}).max_tokens, 4);
  EXPECT_TRUE(FitContext({.prompt_tokens = 60, .max_tokens = 5, .max_model_len = 64}).error);
  EXPECT_EQ(FitContext({.prompt_tokens = 60, .max_model_len = 64}).max_tokens, 4);
  EXPECT_EQ(FitContext({.prompt_tokens = 60, .default_tokens = 16, .max_model_len = 64}).max_tokens,
            4);
  EXPECT_TRUE(FitContext({.prompt_tokens = 64, .max_model_len = 64}).error);
}

using HostileBodies = ParseFixture;

// Mutations of a good body: whatever the bytes, the answer is a request or a 4xx, and no crash.
TEST_F(HostileBodies, EndInARequestOrA4xx) {
  constexpr uint32_t kSeed = 20240607;
  std::mt19937 random(kSeed);
  const std::string good =
      R"({"model":"demo","messages":[{"role":"user","content":[{"type":"text","text":"h\u00e9"}]}],)"
      R"("prompt":["ab",[1,2]],"max_tokens":4,"stop":["x"],"logit_bias":{"5":1.5},"n":2,)"
      R"("stream":true,"stream_options":{"include_usage":true},"slo":{"ttft_ms":1e3},"seed":-7})";
  const std::string_view tokens[] = {
      "null",    "[]", "{}", "-1", "1e400", "\"\"", "true",
      "\\u0000", "[[", "}}", ",",  ":",     "\xff", "99999999999999999999"};
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string body = good;
    for (uint32_t edits = 1 + random() % 3; edits > 0; --edits) {
      const size_t at = random() % body.size();
      const size_t length = std::min<size_t>(random() % 8, body.size() - at);
      const std::string_view with = tokens[random() % std::size(tokens)];
      body.replace(at, length, random() % 2 == 0 ? with : std::string_view());
      if (body.empty()) body = "x";
    }
    for (auto result : {Completion(body), Chat(body)}) {
      if (result.ok()) continue;
      ++refused;
      EXPECT_TRUE(result.error().http_status == 400 || result.error().http_status == 404)
          << "seed " << kSeed << " round " << round << ": " << body;
      const std::string rendered = RenderError(result.error());
      EXPECT_TRUE(json::parse(rendered, nullptr, false).is_object()) << rendered;
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(ClusterJson, IsOneObjectWithEveryPartOfTheReport) {
  ClusterReport report{.time_s = 2.5,
                       .stages = {{"queued", 3}, {"decoding", 0}},
                       .missed = {{"prefill", 1}},
                       .generation_tokens = 9,
                       .rejected = 2};
  report.classes.push_back(
      {.name = "chat \"fast\"", .ttft_ms = 200, .tpot_ms = 40, .results = {{"good", 5}}});
  report.workers.push_back(
      {.id = "decode-0", .role = "decode", .alive = true, .standing = "ejected", .busy_blocks = 4});
  report.workers.push_back({.id = "decode-1", .role = "decode"});
  report.pairs.push_back({"prefill-0", "decode-0", "tcp", 2, 1 << 20, 0.5});
  report.ejected_pairs.push_back({"prefill-0", "decode-1", "probing"});
  const json out = json::parse(
      RenderClusterReport(report, {.name = "demo"}, {ReadyPhase::kDraining, "1 request is open"}));
  EXPECT_EQ(out["time_s"], 2.5);
  EXPECT_EQ(out["model"], "demo");
  EXPECT_EQ(out["phase"], "draining");
  EXPECT_EQ(out["stages"], json({{"queued", 3}, {"decoding", 0}}));
  EXPECT_EQ(out["missed"]["prefill"], 1);
  EXPECT_EQ(out["rejected"], 2);
  EXPECT_EQ(out["classes"][0]["name"], "chat \"fast\"");
  EXPECT_EQ(out["classes"][0]["results"]["good"], 5);
  EXPECT_EQ(out["workers"].size(), 2u);
  EXPECT_EQ(out["workers"][0]["busy_blocks"], 4);
  EXPECT_EQ(out["workers"][0]["standing"], "ejected");
  EXPECT_EQ(out["workers"][1]["alive"], false);
  EXPECT_EQ(out["ejected_pairs"],
            json({{{"prefill", "prefill-0"}, {"decode", "decode-1"}, {"standing", "probing"}}}));
  EXPECT_EQ(out["pairs"][0]["bytes"], 1 << 20);
}

}  // namespace
}  // namespace baton
