// The bytes of a packed file: what is written is read, and nothing else is taken for one.
#include "engine/model/packed_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/hash.h"
#include "engine/kernels/linear.h"
#include "engine/model/weight_source.h"

namespace baton {
namespace {

using testing::HasSubstr;

constexpr char kFacts[] = "config a\nmodel.safetensors: 10 bytes";

struct Written {
  std::vector<std::byte> bytes;
  PackedLayout layout;
};

Written Write(const std::vector<std::string>& contents) {
  PackedFile file = {.facts = kFacts, .fingerprint = 77};
  for (const std::string& text : contents) {
    const auto data = std::as_bytes(std::span(text));
    file.sections.push_back(
        {.name = absl::StrCat("section ", text), .data = data, .checksum = PackedChecksum(data)});
  }
  Written written = {.layout = LayOutPackedFile(file)};
  written.bytes.resize(written.layout.file_bytes);
  const auto put = [&](std::span<const std::byte> data, uint64_t offset) {
    std::memcpy(written.bytes.data() + offset, data.data(), data.size());
  };
  put(std::as_bytes(std::span(written.layout.header)), 0);
  for (size_t i = 0; i < contents.size(); ++i) {
    put(file.sections[i].data, written.layout.offsets[i]);
  }
  return written;
}

TEST(PackedFile, ReadsBackWhatWasWritten) {
  const Written written = Write({"one", "", std::string(5000, 'x'), "four"});
  const auto file = ParsePackedFile(written.bytes, kFacts);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->fingerprint, 77u);
  EXPECT_EQ(file->facts, kFacts);
  ASSERT_EQ(file->sections.size(), 4u);
  EXPECT_EQ(file->sections[3].name, "section four");
  EXPECT_EQ(file->sections[2].data.size(), 5000u);
  for (size_t i = 0; i < 4; ++i) {
    const PackedSection& section = file->sections[i];
    EXPECT_EQ(section.data.data(), written.bytes.data() + written.layout.offsets[i]);
    EXPECT_EQ(written.layout.offsets[i] % kPackedAlignment, 0u);
    EXPECT_EQ(PackedChecksum(section.data), section.checksum);
  }
}

TEST(PackedFile, RefusesEveryLengthButItsOwn) {
  Written written = Write({"one", "two"});
  const std::vector<std::byte> whole = written.bytes;
  for (size_t length = 0; length < whole.size(); length += length < 400 ? 1 : 509) {
    // Of its own allocation, so that a sanitizer sees each byte that is read behind the end.
    const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<int64_t>(length));
    EXPECT_EQ(ParsePackedFile(cut, kFacts).status().code(), absl::StatusCode::kFailedPrecondition)
        << length;
  }
  written.bytes.emplace_back();
  EXPECT_THAT(
      ParsePackedFile(written.bytes, kFacts).status().ToString(),
      HasSubstr(absl::StrCat("it has ", whole.size() + 1, " bytes; wanted ", whole.size())));
}

TEST(PackedFile, RefusesEveryFlippedBitOfItsHeader) {
  Written written = Write({"one", "two"});
  const size_t header = std::string_view(written.layout.header).find_last_not_of('\0') + 1;
  ASSERT_GT(header, 100u);
  for (size_t bit = 0; bit < 8 * header; ++bit) {
    written.bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_FALSE(ParsePackedFile(written.bytes, kFacts).ok()) << "bit " << bit;
    written.bytes[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  EXPECT_TRUE(ParsePackedFile(written.bytes, kFacts).ok());
}

TEST(PackedFile, NamesWhatMakesItStale) {
  Written written = Write({"one"});
  EXPECT_THAT(
      ParsePackedFile(written.bytes, "config a\nmodel.safetensors: 11 bytes").status().ToString(),
      HasSubstr("made of \"model.safetensors: 10 bytes\"; wanted "
                "\"model.safetensors: 11 bytes\""));
  EXPECT_THAT(ParsePackedFile(written.bytes, "config a").status().ToString(),
              HasSubstr("wanted \"nothing\""));
  written.bytes[16] = std::byte{kPackedFileVersion + 1};
  EXPECT_THAT(ParsePackedFile(written.bytes, kFacts).status().ToString(),
              HasSubstr(absl::StrCat("version ", kPackedFileVersion + 1)));
  written.bytes[0] = std::byte{'x'};
  EXPECT_THAT(ParsePackedFile(written.bytes, kFacts).status().ToString(),
              HasSubstr("not a file of packed weights"));
}

// A header whose checksum is right, though its numbers are not: what a bug would write.
TEST(PackedFile, RefusesSectionsThatLieOutside) {
  for (const uint64_t offset : {uint64_t{1} << 63, uint64_t{8192}, uint64_t{4097}, ~uint64_t{0}}) {
    Written written = Write({"one"});
    const size_t at = 48 + std::strlen(kFacts);
    std::memcpy(written.bytes.data() + at, &offset, sizeof(offset));
    uint32_t header_bytes = 0;
    std::memcpy(&header_bytes, written.bytes.data() + 20, sizeof(header_bytes));
    const uint64_t checksum = HashBytes(written.bytes.data() + 16, header_bytes - 16);
    std::memcpy(written.bytes.data() + 8, &checksum, sizeof(checksum));
    EXPECT_THAT(ParsePackedFile(written.bytes, kFacts).status().ToString(),
                HasSubstr("section section one is not within the file"))
        << offset;
  }
}

// Files outlive programs. If this fails, raise kPackedFileVersion and put the new hashes here: a
// file of before would otherwise be taken for one of today.
TEST(PackedFile, PackedBytesAreThoseOfThisVersion) {
  ASSERT_EQ(kPackedFileVersion, 2u);
  constexpr int32_t kN = 70, kK = 74;
  struct Case {
    PackFormat format;
    uint64_t hash;
  };
  const Case cases[] = {
      {{WeightElement::kBf16, 64, 16, 2}, 9773607951370357628u},
      {{WeightElement::kBf16, 24, 8, 1}, 3147257997236083397u},
      {{WeightElement::kF32, 64, 16, 1}, 317304044854015963u},
      {{WeightElement::kInt8, 64, 16, 4}, 7134995116240146643u},
      {{WeightElement::kInt4, 64, 16, 4}, 17296591527632691148u},
  };
  const WeightTensor tensor = WeightTensor::Random({9, 0.0f, 0.3f}, kK);
  for (const Case& tested : cases) {
    PackedMatrix matrix(kN, kK, tested.format);
    const int32_t width = tested.format.panel_columns;
    for (int32_t panel = 0; panel < matrix.num_panels(); ++panel) {
      std::vector<std::vector<float>> f32;
      std::vector<std::vector<Bf16>> bf16;
      for (int32_t row = panel * width; row < std::min(kN, (panel + 1) * width); ++row) {
        tensor.ReadRow(row, f32.emplace_back(kK).data());
        tensor.ReadRow(row, bf16.emplace_back(kK).data());
      }
      std::vector<const float*> f32_rows;
      std::vector<const Bf16*> bf16_rows;
      for (size_t i = 0; i < f32.size(); ++i) {
        f32_rows.push_back(f32[i].data());
        bf16_rows.push_back(bf16[i].data());
      }
      if (tested.format.element == WeightElement::kBf16) {
        matrix.PackPanel(panel, bf16_rows);
      } else {
        matrix.PackPanel(panel, f32_rows);
      }
    }
    EXPECT_EQ(PackedChecksum(matrix.data()), tested.hash)
        << "element " << static_cast<int>(tested.format.element);
    const PackedMatrix view(kN, kK, tested.format, matrix.data());
    std::vector<float> own(kK), other(kK);
    matrix.UnpackRow(kN - 1, own.data());
    view.UnpackRow(kN - 1, other.data());
    EXPECT_EQ(own, other);
  }
}

}  // namespace
}  // namespace baton
