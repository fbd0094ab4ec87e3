#include "bench/gpu_roofline/row_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace baton::roofline {
namespace {

using testing::ElementsAre;

TEST(RowJson, KeepsAllOfAPart) {
  const Part part{.name = "products",
                  .device = "a \"device\"",
                  .note = "PyTorch",
                  .emulated = true,
                  .rows = {{.name = "qkv",
                            .samples_ms = {1.5, 0.25},
                            .work = {.bytes = 1e12, .flop = 3, .bus_bytes = 4},
                            .target_ms = 6,
                            .target_share = 0.85,
                            .variant = "flash"},
                           {.name = "output", .error = "no memory"}},
                  .error = "it ended early"};
  const Part read = *PartFromJson(PartToJson(part));
  EXPECT_EQ(read.name, part.name);
  EXPECT_EQ(read.device, part.device);
  EXPECT_EQ(read.note, part.note);
  EXPECT_TRUE(read.emulated);
  EXPECT_EQ(read.error, part.error);
  ASSERT_EQ(read.rows.size(), 2u);
  const Row& row = read.rows[0];
  EXPECT_EQ(row.name, "qkv");
  EXPECT_THAT(row.samples_ms, ElementsAre(1.5, 0.25));
  EXPECT_EQ(row.work.bytes, 1e12);
  EXPECT_EQ(row.work.flop, 3);
  EXPECT_EQ(row.work.bus_bytes, 4);
  EXPECT_EQ(row.target_ms, 6);
  EXPECT_EQ(row.target_share, 0.85);
  EXPECT_EQ(row.variant, "flash");
  EXPECT_EQ(read.rows[1].error, "no memory");
}

TEST(RowJson, RefusesWhatIsNoPart) {
  for (const char* text : {"", "{", "[]", "{}", R"({"part": 5})", R"({"part": "x", "rows": 3})",
                           R"({"part": "x", "rows": [{"name": "a", "samples_ms": "b"}]})"}) {
    EXPECT_EQ(PartFromJson(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_TRUE(PartFromJson(R"({"part": "x"})").ok());
}

TEST(RowJson, ReadsADirectoryInOrderAndNamesWhatIsBroken) {
  const std::filesystem::path directory =
      std::filesystem::path(testing::TempDir()) / "gpu_roofline_row_json";
  std::filesystem::remove_all(directory);
  EXPECT_EQ(ReadParts(directory).status().code(), absl::StatusCode::kNotFound);
  std::filesystem::create_directories(directory);
  ASSERT_TRUE(WriteFile(directory / "20-b.part.json", PartToJson({.name = "b"})).ok());
  ASSERT_TRUE(WriteFile(directory / "10-a.part.json", PartToJson({.name = "a"})).ok());
  ASSERT_TRUE(WriteFile(directory / "30-c.part.json", "{\"part\": \"c").ok());
  ASSERT_TRUE(WriteFile(directory / "other.json", "{").ok());
  const std::vector<Part> parts = *ReadParts(directory);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].name, "a");
  EXPECT_EQ(parts[1].name, "b");
  EXPECT_EQ(parts[2].name, "30-c.part.json");
  EXPECT_NE(parts[2].error, "");
}

}  // namespace
}  // namespace baton::roofline
