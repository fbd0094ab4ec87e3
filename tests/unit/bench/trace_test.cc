#include "bench/load/core/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton::load {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kHeader[] = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

std::string CsvProblem(const std::string& rows) {
  const auto parsed = ParseAzureCsv(kHeader + rows, "t.csv");
  EXPECT_FALSE(parsed.ok());
  return std::string(parsed.status().message());
}

std::string JsonlProblem(const std::string& rows) {
  const auto parsed = ParseMooncakeJsonl(rows, "t.jsonl");
  EXPECT_FALSE(parsed.ok());
  return std::string(parsed.status().message());
}

TEST(AzureTrace, RowsAreRelativeToTheFirst) {
  const auto rows = ParseAzureCsv(std::string(kHeader) +
                                      "2023-11-16 23:59:59.9799600,4808,10\r\n"
                                      "2023-11-17 00:00:00,3180,8\n"
                                      "\n"
                                      "2023-11-17 00:00:01.5,110,27",
                                  "t.csv");
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 3u);
  EXPECT_EQ((*rows)[0].at, absl::ZeroDuration());
  EXPECT_EQ((*rows)[0].lengths.prompt_tokens, 4808);
  EXPECT_EQ((*rows)[0].lengths.output_tokens, 10);
  EXPECT_NEAR(absl::ToDoubleSeconds((*rows)[1].at), 0.02004, 1e-9);
  EXPECT_NEAR(absl::ToDoubleSeconds((*rows)[2].at), 1.52004, 1e-9);
  EXPECT_TRUE((*rows)[0].block_ids.empty());
}

TEST(AzureTrace, BadRowsNameFileLineAndReason) {
  const std::string good = "2023-11-16 18:17:03.97,4808,10\n";
  EXPECT_EQ(CsvProblem(good + good + "2023-11-16 18:17:04,1\n"),
            "t.csv:4: expected 3 columns, found 2");
  EXPECT_EQ(CsvProblem("2023-11-16 18:17:04,many,3\n"),
            "t.csv:2: ContextTokens is \"many\", not a whole number");
  EXPECT_EQ(CsvProblem("2023-11-16 18:17:04,5,0\n"),
            "t.csv:2: GeneratedTokens is 0; expected 1 to 10000000");
  EXPECT_EQ(CsvProblem("2023-11-16 18:17:04,-5,3\n"),
            "t.csv:2: ContextTokens is -5; expected 1 to 10000000");
  EXPECT_THAT(CsvProblem("2023-11-16 18:17:04,99999999999999999999,3\n"), HasSubstr("t.csv:2: "));
  EXPECT_EQ(CsvProblem(good + "2023-11-16 18:17:03.96,5,3\n"),
            "t.csv:3: the timestamp is before that of the row above");
  for (const char* time : {"yesterday", "2023-13-16 18:17:04", "2023-11-16T18:17:04",
                           "2023-11-16 18:17:04.", "2023-11-16 18:17:04.1e3", ""}) {
    EXPECT_THAT(CsvProblem(std::string(time) + ",5,3\n"), HasSubstr("t.csv:2: TIMESTAMP is"))
        << time;
  }
  EXPECT_EQ(CsvProblem(""), "t.csv:1: the trace has no rows");
  EXPECT_THAT(std::string(ParseAzureCsv("a,b\n1,2\n", "t.csv").status().message()),
              HasSubstr("t.csv:1: expected the header"));
}

TEST(MooncakeTrace, RowsKeepTheirBlocks) {
  const auto rows = ParseMooncakeJsonl(
      R"({"timestamp": 27, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]})"
      "\n"
      R"({"timestamp": 1027, "input_length": 512, "output_length": 9, "hash_ids": [0]})",
      "t.jsonl");
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), 2u);
  EXPECT_THAT((*rows)[0].block_ids, ElementsAre(0, 7));
  EXPECT_EQ((*rows)[1].at, absl::Seconds(1));
  EXPECT_EQ((*rows)[1].lengths.output_tokens, 9);
}

TEST(MooncakeTrace, BadRowsNameFileLineAndReason) {
  const std::string good =
      R"({"timestamp": 27, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]})"
      "\n";
  EXPECT_EQ(JsonlProblem(good + "{\"timestamp\": 3,\n"), "t.jsonl:2: not a JSON object");
  EXPECT_EQ(JsonlProblem("[1]\n"), "t.jsonl:1: not a JSON object");
  EXPECT_EQ(JsonlProblem(R"({"input_length": 600, "output_length": 5})"),
            "t.jsonl:1: no timestamp in milliseconds");
  EXPECT_EQ(JsonlProblem(R"({"timestamp": 1, "output_length": 5})"), "t.jsonl:1: no input_length");
  EXPECT_EQ(JsonlProblem(R"({"timestamp": 1, "input_length": 1.5, "output_length": 5})"),
            "t.jsonl:1: input_length is not a whole number");
  EXPECT_EQ(JsonlProblem(R"({"timestamp": 1, "input_length": 5, "output_length": 0})"),
            "t.jsonl:1: output_length is 0; expected 1 to 10000000");
  EXPECT_EQ(
      JsonlProblem(R"({"timestamp": 1, "input_length": 600, "output_length": 5, "hash_ids": [0]})"),
      "t.jsonl:1: hash_ids has 1 entries; input_length 600 needs 2, one for each 512 tokens");
  EXPECT_EQ(
      JsonlProblem(R"({"timestamp": 1, "input_length": 6, "output_length": 5, "hash_ids": ["a"]})"),
      "t.jsonl:1: hash_ids holds something that is not a whole number");
  EXPECT_EQ(JsonlProblem(good + R"({"timestamp": 2, "input_length": 6, "output_length": 5})"),
            "t.jsonl:2: the timestamp is before that of the row above");
  EXPECT_EQ(JsonlProblem("\n\n"), "t.jsonl:2: the trace has no rows");
}

TEST(TraceFile, MissingFileIsNamed) {
  EXPECT_THAT(std::string(ReadTrace("/nowhere/t.csv").status().message()),
              HasSubstr("cannot read /nowhere/t.csv"));
}

}  // namespace
}  // namespace baton::load
