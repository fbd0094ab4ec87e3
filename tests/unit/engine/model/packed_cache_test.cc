// Models out of packed weights: the same as without, whatever becomes of the file.
#include "engine/model/packed_cache.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/hash.h"
#include "tests/unit/engine/model/model_files.h"
#include "tests/unit/engine/model/paged_runner.h"
#include "tests/unit/engine/model/tiny_models.h"

namespace baton {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

struct Loaded {
  absl::StatusOr<std::unique_ptr<Model>> model;
  std::vector<LoadNote> notes;
  std::vector<std::string> Events() const {
    std::vector<std::string> events;
    for (const LoadNote& note : notes) events.push_back(note.event);
    return events;
  }
};

Loaded Load(ModelOptions options) {
  Loaded loaded;
  options.note = [&](const LoadNote& note) { loaded.notes.push_back(note); };
  loaded.model = Model::Load(options, nullptr);
  return loaded;
}

std::vector<float> LogitsOf(Model* model) {
  PagedRunner runner(model, 4, 1);
  PagedRunner::Sequence sequence;
  const std::vector<TokenId> tokens = {0, 3, 1, 4, 2};
  return runner.Step({{&sequence, tokens}}).values;
}

constexpr char kUsed[] = "packed weights used";
constexpr char kStale[] = "packed weights are stale";
constexpr char kWritten[] = "packed weights written";
constexpr char kNotWritten[] = "packed weights not written";

class PackedCacheTest : public testing::Test {
 protected:
  PackedCacheTest() {
    model_.Write("config.json", kSmallestConfig);
    WriteWeights();
    options_.path = model_.path();
    options_.packed_cache = cache_.path();
  }
  // Numbers that differ, so that a part that is taken for another shows.
  void WriteWeights() {
    std::string bytes = SafetensorsOf(SmallestTensors());
    for (size_t i = bytes.size() - 1000; i < bytes.size(); i += 2) {
      bytes[i] = static_cast<char>(i * 37);
    }
    model_.Write("model.safetensors", bytes);
  }
  std::string File() const {
    std::string found;
    for (const auto& entry : fs::directory_iterator(cache_.path())) {
      EXPECT_EQ(found, "") << "more than one file";
      found = entry.path().string();
    }
    return found;
  }
  std::string Bytes() const {
    std::ifstream file(File(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void Put(const std::string& bytes) const { cache_.Write(fs::path(File()).filename(), bytes); }
  // With the facts that it names itself. Points into `whole`.
  static absl::StatusOr<PackedFile> Parse(const std::string& whole) {
    uint32_t length = 0;
    std::memcpy(&length, whole.data() + 40, sizeof(length));
    return ParsePackedFile(std::as_bytes(std::span(whole)), whole.substr(48, length));
  }
  // Loads; `events`: what is to be noted. The model is what it is without a cache.
  void ExpectLoads(const std::vector<std::string>& events, const std::string& why = "") {
    const Loaded loaded = Load(options_);
    ASSERT_TRUE(loaded.model.ok()) << loaded.model.status();
    EXPECT_EQ(loaded.Events(), events);
    EXPECT_THAT(loaded.notes.front().why, HasSubstr(why));
    for (const LoadNote& note : loaded.notes) {
      EXPECT_EQ(note.warning, note.event == kStale || note.event == kNotWritten) << note.event;
    }
    ModelOptions plain = options_;
    plain.packed_cache = "";
    const Loaded expected = Load(plain);
    EXPECT_TRUE(expected.notes.empty());
    const ModelInfo& info = (*loaded.model)->info();
    const ModelInfo& expected_info = (*expected.model)->info();
    EXPECT_EQ(info.fingerprint, expected_info.fingerprint);
    EXPECT_EQ(info.num_parameters, expected_info.num_parameters);
    EXPECT_EQ(info.weight_bytes, expected_info.weight_bytes);
    EXPECT_EQ(LogitsOf(loaded.model->get()), LogitsOf(expected.model->get()));
  }

  TempDirectory model_;
  TempDirectory cache_;
  ModelOptions options_;
};

TEST_F(PackedCacheTest, IsWrittenOnceAndThenUsed) {
  ExpectLoads({kWritten});
  ExpectLoads({kUsed});
  options_.num_threads = 2;
  ExpectLoads({kUsed});
}

TEST_F(PackedCacheTest, GivesTheSameModelOfEveryArchitectureAndDtype) {
  for (const std::string& name : TinyModelNames()) {
    for (const char* weights : {"", "int8", "int4"}) {
      for (const char* isa : {"avx2", ""}) {
        for (const bool f32 : {false, true}) {
          TempDirectory cache;
          options_ = {.path = TinyModelPath(name), .f32 = f32, .weights = weights, .isa = isa};
          options_.packed_cache = cache.path();
          SCOPED_TRACE(absl::StrCat(name, " ", weights, " ", isa, " ", f32));
          ExpectLoads({kWritten});
          ExpectLoads({kUsed});
        }
      }
    }
  }
}

TEST_F(PackedCacheTest, HasAFileForEachLayout) {
  size_t files = 0;
  for (const char* weights : {"", "int8", "int4"}) {
    for (const bool f32 : {false, true}) {
      options_.weights = weights;
      options_.f32 = f32;
      EXPECT_THAT(Load(options_).Events(), ElementsAre(kWritten));
      EXPECT_THAT(Load(options_).Events(), ElementsAre(kUsed));
      ++files;
    }
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(cache_.path()), {}),
            static_cast<std::ptrdiff_t>(files));
}

TEST_F(PackedCacheTest, IsStaleOnceTheModelHasChanged) {
  ExpectLoads({kWritten});
  WriteWeights();  // the same bytes in a new file
  ExpectLoads({kStale, kWritten}, "model.safetensors: header ");
  ExpectLoads({kUsed});
  {
    // One bit in place, and the time of before.
    const fs::path path = fs::path(model_.path()) / "model.safetensors";
    const auto modified = fs::last_write_time(path);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x3e');
    file.close();
    fs::last_write_time(path, modified);
  }
  ExpectLoads({kStale, kWritten}, "made of \"model.safetensors: header ");
  ExpectLoads({kUsed});
  nlohmann::json config = nlohmann::json::parse(kSmallestConfig);
  config["rope_theta"] = 20000.0;
  model_.Write("config.json", config.dump());
  ExpectLoads({kStale, kWritten}, "made of \"config LlamaForCausalLM");
  ExpectLoads({kUsed});
}

TEST_F(PackedCacheTest, IsStaleWhenCutOffOrOfAnotherVersion) {
  ExpectLoads({kWritten});
  const std::string whole = Bytes();
  for (const size_t length : {size_t{0}, size_t{20}, size_t{300}, size_t{4096}, whole.size() - 1}) {
    Put(whole.substr(0, length));
    ExpectLoads({kStale, kWritten});
    EXPECT_EQ(Bytes(), whole);
  }
  std::string other = whole;
  other[16] = kPackedFileVersion - 1;
  Put(other);
  ExpectLoads({kStale, kWritten},
              absl::StrCat("version ", kPackedFileVersion - 1, "; wanted ", kPackedFileVersion));
  ExpectLoads({kUsed});
}

// Files outlive programs. If this fails, raise kPackedFileVersion and put the new hash here: a file
// of before would otherwise be taken for one of today.
TEST_F(PackedCacheTest, SectionsAreThoseOfThisVersion) {
  ASSERT_EQ(kPackedFileVersion, 2u);
  options_ = {.path = TinyModelPath("qwen3_dim40"), .weights = "int8", .isa = "avx2"};
  options_.packed_cache = cache_.path();
  ExpectLoads({kWritten});
  const std::string whole = Bytes();
  const auto file = Parse(whole);
  ASSERT_TRUE(file.ok()) << file.status();
  uint64_t hash = 0;
  for (const PackedSection& section : file->sections) {
    hash = HashCombine(HashCombine(hash, HashString(section.name)), section.checksum);
  }
  EXPECT_EQ(hash, 1829923710671633363u);
}

TEST_F(PackedCacheTest, AFlippedBitInAnySectionIsFound) {
  ExpectLoads({kWritten});
  const std::string whole = Bytes();
  const auto* data = reinterpret_cast<const std::byte*>(whole.data());
  const auto file = Parse(whole);
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->sections.size(), 9u);  // qkv and gate_up hold several tensors
  for (const PackedSection& section : file->sections) {
    for (const size_t at : {size_t{0}, section.data.size() - 1}) {
      std::string damaged = whole;
      damaged[static_cast<size_t>(section.data.data() - data) + at] ^= 0x10;
      Put(damaged);
      const Loaded loaded = Load(options_);
      EXPECT_THAT(loaded.Events(), ElementsAre(kStale, kWritten));
      EXPECT_EQ(loaded.notes[0].why, "section " + section.name + " is damaged");
      EXPECT_EQ(Bytes(), whole);
    }
  }
}

TEST_F(PackedCacheTest, WithoutAPlaceToWriteTheModelLoadsAllTheSame) {
  options_.packed_cache = model_.path() + "/config.json";  // not a directory
  ExpectLoads({kStale, kNotWritten});
  options_.packed_cache = "/proc/baton";  // nobody may write there, root neither
  ExpectLoads({kNotWritten});
  // What lies in the place of the file.
  options_.packed_cache = cache_.path();
  ExpectLoads({kWritten});
  const std::string file = File();
  fs::remove(file);
  fs::create_directories(file + "/taken");
  ExpectLoads({kStale, kNotWritten});
  EXPECT_FALSE(fs::exists(file + ".unfinished"));
}

TEST_F(PackedCacheTest, AFullDiskLeavesNothingBehind) {
  // As a full disk, but for this process only: files may not grow beyond a page.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Loaded loaded = Load(options_);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_TRUE(loaded.model.ok());
  EXPECT_THAT(loaded.Events(), ElementsAre(kNotWritten));
  EXPECT_TRUE(fs::is_empty(cache_.path()));
  ExpectLoads({kWritten});
}

TEST_F(PackedCacheTest, TakesOverWhatAKilledWriterLeft) {
  ExpectLoads({kWritten});
  const std::string whole = Bytes();
  const std::string file = File();
  fs::rename(file, file + ".unfinished");
  std::ofstream(file + ".unfinished", std::ios::app) << "longer than the file that is to come";
  ExpectLoads({kWritten});
  EXPECT_EQ(Bytes(), whole);
}

TEST_F(PackedCacheTest, OneWritesWhileAnotherOnlyLoads) {
  ExpectLoads({kWritten});
  const std::string file = File();
  fs::rename(file, file + ".unfinished");
  const int writer = open((file + ".unfinished").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(writer, LOCK_EX), 0);
  const Loaded loaded = Load(options_);
  ASSERT_TRUE(loaded.model.ok());
  ASSERT_THAT(loaded.Events(), ElementsAre(kNotWritten));
  EXPECT_FALSE(loaded.notes[0].warning);
  EXPECT_THAT(loaded.notes[0].why, HasSubstr("another process is writing it"));
  close(writer);
  ExpectLoads({kWritten});
}

TEST_F(PackedCacheTest, ManyLoadersAtOnceAllGetTheModel) {
  const std::vector<float> expected = LogitsOf(Load(options_).model->get());
  for (int round = 0; round < 20; ++round) {
    if (round % 2 == 0) fs::remove(File());
    std::vector<Loaded> loaded(4);
    std::vector<std::thread> threads;
    for (Loaded& one : loaded) threads.emplace_back([&] { one = Load(options_); });
    for (std::thread& thread : threads) thread.join();
    for (const Loaded& one : loaded) {
      ASSERT_TRUE(one.model.ok()) << one.model.status();
      for (const LoadNote& note : one.notes) EXPECT_FALSE(note.warning) << note.event << note.why;
      EXPECT_EQ(LogitsOf(one.model->get()), expected);
    }
    EXPECT_THAT(Load(options_).Events(), ElementsAre(kUsed));
  }
}

// A new file takes the old one's place; who has mapped the old one goes on with it.
TEST_F(PackedCacheTest, AReplacedFileStaysWithThoseThatUseIt) {
  ExpectLoads({kWritten});
  const Loaded old = Load(options_);
  ASSERT_THAT(old.Events(), ElementsAre(kUsed));
  const std::vector<float> expected = LogitsOf(old.model->get());
  model_.Write("model.safetensors", SafetensorsOf(SmallestTensors()));
  const Loaded changed = Load(options_);
  ASSERT_THAT(changed.Events(), ElementsAre(kStale, kWritten));
  EXPECT_EQ(LogitsOf(old.model->get()), expected);
  EXPECT_NE(LogitsOf(changed.model->get()), expected);
}

}  // namespace
}  // namespace baton
