#include "bench/load/core/json_cursor.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "bench/load/core/random.h"

namespace baton::load {
namespace {

bool Valid(std::string_view text) {
  JsonCursor cursor(text);
  cursor.Skip();
  return cursor.AtEnd();
}

TEST(JsonCursor, ReadsWhatItIsAskedForAndSkipsTheRest) {
  JsonCursor cursor(R"( {"a": [1, {"b": "x\"y"}, null], "n": -2.5e1, "s": "t\u0041", "t": true} )");
  ASSERT_TRUE(cursor.EnterObject());
  std::string_view key, text;
  double number = 0;
  ASSERT_TRUE(cursor.NextKey(&key));
  EXPECT_EQ(key, "a");
  cursor.Skip();
  ASSERT_TRUE(cursor.NextKey(&key));
  EXPECT_TRUE(cursor.ReadNumber(&number));
  EXPECT_EQ(number, -25);
  ASSERT_TRUE(cursor.NextKey(&key));
  EXPECT_TRUE(cursor.ReadString(&text));
  EXPECT_EQ(text, "t\\u0041");
  ASSERT_TRUE(cursor.NextKey(&key));
  EXPECT_FALSE(cursor.ReadNumber(&number));  // skipped
  EXPECT_FALSE(cursor.NextKey(&key));
  EXPECT_TRUE(cursor.AtEnd());
}

TEST(JsonCursor, EntersOnlyWhatIsThere) {
  JsonCursor cursor("[[], {}, 3]");
  EXPECT_FALSE(cursor.EnterObject());
  ASSERT_TRUE(cursor.EnterArray());
  ASSERT_TRUE(cursor.NextItem());
  ASSERT_TRUE(cursor.EnterArray());
  EXPECT_FALSE(cursor.NextItem());
  ASSERT_TRUE(cursor.NextItem());
  EXPECT_FALSE(cursor.EnterArray());
  cursor.Skip();
  ASSERT_TRUE(cursor.NextItem());
  cursor.Skip();
  EXPECT_FALSE(cursor.NextItem());
  EXPECT_TRUE(cursor.AtEnd());
}

// Servers send such halves where a token ends in the middle of a character.
TEST(JsonCursor, EscapedSurrogatesNeedNoPair) {
  for (const char* text : {R"("\ud83d\ude00")", R"("\ud83d")", R"("\udddddd00e9")"}) {
    EXPECT_TRUE(Valid(text)) << text;
  }
  EXPECT_FALSE(Valid(R"("\ud83")"));
}

TEST(JsonCursor, DepthIsBounded) {
  EXPECT_TRUE(Valid(std::string(100, '[') + std::string(100, ']')));
  EXPECT_FALSE(Valid(std::string(1'000'000, '[')));
}

// Every edit of a valid document is judged as the reference parser judges it.
TEST(JsonCursor, AgreesWithTheReferenceOnDamagedDocuments) {
  const std::string seeds[] = {
      R"({"a":[1,-0.5e+3,{"b":null}],"c":"x\n\u00e9","d":{},"e":[],"f":true,"g":false})",
      R"([0, 10, -1, 1.25, 1E5, "", "\\\"", [[[]]], {"k":{"k":[{}]}}])",
      R"({"choices":[{"index":0,"text":" a","finish_reason":null}],"usage":{"n":12}})"};
  const std::string alphabet = R"({}[]",:0123456789.eE+-\unlftrb xa)";
  Rng rng(20261121, 1);
  int valid = 0;
  for (int round = 0; round < 60'000; ++round) {
    std::string text = seeds[round % 3];
    const int64_t edits = rng.UniformInt(0, 3);
    for (int64_t i = 0; i < edits && !text.empty(); ++i) {
      const auto at = static_cast<size_t>(rng.UniformInt(0, static_cast<int64_t>(text.size()) - 1));
      const char c = alphabet[static_cast<size_t>(
          rng.UniformInt(0, static_cast<int64_t>(alphabet.size()) - 1))];
      switch (rng.UniformInt(0, 2)) {
        case 0:
          text[at] = c;
          break;
        case 1:
          text.erase(at, 1);
          break;
        default:
          text.insert(at, 1, c);
      }
    }
    const bool expected = nlohmann::json::accept(text);
    ASSERT_EQ(Valid(text), expected) << "round " << round << ": " << text;
    valid += expected ? 1 : 0;
  }
  EXPECT_GT(valid, 10'000);
  EXPECT_LT(valid, 50'000);
}

}  // namespace
}  // namespace baton::load
