#include "engine/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/engine/model/model_files.h"

namespace baton {
namespace {

using testing::HasSubstr;

absl::StatusOr<std::vector<TensorView>> Parse(const std::string& bytes) {
  return ParseSafetensors(std::as_bytes(std::span(bytes)), "m.safetensors");
}

void ExpectError(const std::string& bytes, const std::string& what) {
  const absl::Status status = Parse(bytes).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << what;
  EXPECT_THAT(std::string(status.message()), HasSubstr("m.safetensors: "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(what));
}

std::string Entry(const std::string& name, const std::string& rest) {
  return "\"" + name + "\":{" + rest + "}";
}

TEST(SafetensorsTest, ReadsTensorsInFileOrderWithAnyDtype) {
  const std::string header =
      "{\"__metadata__\":{\"format\":\"pt\"}," +
      Entry("b", R"("dtype":"F32","shape":[2,1],"data_offsets":[6,14])") + "," +
      Entry("a", R"("dtype":"BF16","shape":[3],"data_offsets":[0,6])") + "," +
      Entry("scalar", R"("dtype":"I64","shape":[],"data_offsets":[14,22])") + "," +
      Entry("empty", R"("dtype":"U8","shape":[0,7],"data_offsets":[14,14])") + "}";
  const std::string bytes = SafetensorsBytes(header, 22);
  const std::vector<TensorView> views = *Parse(bytes);
  ASSERT_EQ(views.size(), 4u);
  EXPECT_EQ(views[0].name, "a");
  EXPECT_EQ(views[1].name, "b");
  EXPECT_EQ(views[1].shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(views[1].data.size(), 8u);
  EXPECT_EQ(reinterpret_cast<const char*>(views[1].data.data()),
            bytes.data() + 8 + header.size() + 6);
}

TEST(SafetensorsTest, RefusesEveryTruncation) {
  const std::string bytes = SafetensorsOf({{"a", {3}}, {"b", {2, 2}}});
  ASSERT_TRUE(Parse(bytes).ok());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Parse(bytes.substr(0, size)).ok()) << size;
  }
  ExpectError(bytes + "x", "1 bytes after the last tensor");
}

TEST(SafetensorsTest, RefusesBadHeaderLengths) {
  std::string bytes = SafetensorsOf({{"a", {3}}});
  for (const uint64_t length :
       {~uint64_t{0}, uint64_t{1} << 63, uint64_t{100'000'001}, uint64_t{bytes.size() - 7}}) {
    std::memcpy(bytes.data(), &length, sizeof(length));
    ExpectError(bytes, "header length is");
  }
}

TEST(SafetensorsTest, RefusesBadEntries) {
  struct BadEntry {
    const char* entry;
    const char* what;
  };
  for (const BadEntry& bad : {
           BadEntry{R"("shape":[3],"data_offsets":[0,6])", "dtype is missing"},
           BadEntry{R"("dtype":"F17","shape":[3],"data_offsets":[0,6])", "dtype is F17"},
           BadEntry{R"("dtype":7,"shape":[3],"data_offsets":[0,6])", "dtype is 7"},
           BadEntry{R"("dtype":"BF16","data_offsets":[0,6])", "shape must be"},
           BadEntry{R"("dtype":"BF16","shape":[-3],"data_offsets":[0,6])", "whole numbers"},
           BadEntry{R"("dtype":"BF16","shape":[1.5],"data_offsets":[0,6])", "whole numbers"},
           BadEntry{R"("dtype":"BF16","shape":[1,1,1,1,1,1,1,1,3],"data_offsets":[0,6])", "shape"},
           BadEntry{R"("dtype":"BF16","shape":[9223372036854775807],"data_offsets":[0,6])",
                    "overflows"},
           BadEntry{R"("dtype":"BF16","shape":[4294967296,4294967296],"data_offsets":[0,6])",
                    "overflows"},
           BadEntry{R"("dtype":"BF16","shape":[3],"data_offsets":[0,8])", "need 6 bytes"},
           BadEntry{R"("dtype":"BF16","shape":[3],"data_offsets":[6,0])", "need 6 bytes"},
           BadEntry{R"("dtype":"BF16","shape":[3],"data_offsets":[0])", "data_offsets must be"},
           BadEntry{R"("dtype":"BF16","shape":[3],"data_offsets":[-6,0])", "whole numbers"},
           BadEntry{R"("dtype":"BF16","shape":[3],"data_offsets":[2,8])", "after a hole"},
           BadEntry{R"("dtype":"BF16","shape":[4],"data_offsets":[0,8])", "truncated file?"},
           BadEntry{R"("dtype":"BF16","shape":[3],"shape":[3],"data_offsets":[0,6])",
                    "appears twice"},
       }) {
    ExpectError(SafetensorsBytes("{" + Entry("t", bad.entry) + "}", 6), bad.what);
  }
  ExpectError(SafetensorsBytes(R"({"t": 5})", 0), "tensor t: not an object");
  ExpectError(SafetensorsBytes("[]", 0), "not a valid JSON object");
}

TEST(SafetensorsTest, RefusesOverlapHolesAndRepeatedNames) {
  const char* first = R"("dtype":"BF16","shape":[3],"data_offsets":[0,6])";
  ExpectError(
      SafetensorsBytes("{" + Entry("a", first) + "," +
                           Entry("b", R"("dtype":"BF16","shape":[3],"data_offsets":[4,10])") + "}",
                       10),
      "tensor b starts at byte 4, inside of the one before");
  ExpectError(
      SafetensorsBytes("{" + Entry("a", first) + "," +
                           Entry("b", R"("dtype":"BF16","shape":[1],"data_offsets":[8,10])") + "}",
                       10),
      "tensor b starts at byte 8, after a hole");
  ExpectError(SafetensorsBytes("{" + Entry("a", first) + "," + Entry("a", first) + "}", 6),
              "key \"a\" appears twice");
}

TEST(MappedFileTest, NamesThePathThatCannotBeOpened) {
  const TempDirectory directory;
  const absl::Status missing = MappedFile::Open(directory.path() + "/none").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr(directory.path() + "/none"));
  EXPECT_EQ(MappedFile::Open(directory.path()).status().code(),
            absl::StatusCode::kFailedPrecondition);
  directory.Write("empty", "");
  EXPECT_TRUE((*MappedFile::Open(directory.path() + "/empty"))->bytes().empty());
}

}  // namespace
}  // namespace baton
