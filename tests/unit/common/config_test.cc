#include "common/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace baton {
namespace {

using ::testing::HasSubstr;

struct Options {
  int32_t port = 8000;
  double rate = 1.5;
  bool json = false;
  std::string role = "both";
  std::string model;
  int64_t memory_bytes = int64_t{1} << 30;
  absl::Duration timeout = absl::Seconds(3);
  std::vector<std::string> workers;
  std::vector<int32_t> cpus;
};

class ConfigTest : public ::testing::Test {
 protected:
  ConfigTest() {
    schema_.AddInt("http.port", &options_.port, 0, 65535, "port");
    schema_.AddDouble("rate", &options_.rate, 0, 10, "rate");
    schema_.AddBool("log.json", &options_.json, "JSON lines");
    schema_.AddChoice("role", &options_.role, {"prefill", "decode", "both"}, "role");
    schema_.AddString("model", &options_.model, "directory");
    schema_.AddBytes("kv.memory", &options_.memory_bytes, 1 << 20, int64_t{1} << 40, "KV memory");
    schema_.AddDuration("timeout", &options_.timeout, absl::Milliseconds(1), absl::Hours(1), "t");
    schema_.AddList("workers", &options_.workers, "addresses");
    schema_.AddIntList("cpus", &options_.cpus, "CPUs");
  }
  Options options_;
  ConfigSchema schema_;
};

TEST_F(ConfigTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  ASSERT_TRUE(schema_.ApplyYaml("http:\n  port: 1\nrate: 2\nrole: decode\n", "b.yaml").ok());
  ASSERT_TRUE(schema_.ApplyEnvironment({{"BATON_HTTP_PORT", "2"}, {"BATON_RATE", "3"}}).ok());
  ASSERT_TRUE(schema_.ApplyFlag("http.port", "3").ok());
  EXPECT_EQ(options_.port, 3);
  EXPECT_EQ(options_.rate, 3);
  EXPECT_EQ(options_.role, "decode");
  const std::string printed = schema_.Print();
  EXPECT_THAT(printed, HasSubstr("  port: 3  # flag --http-port"));
  EXPECT_THAT(printed, HasSubstr("rate: 3  # environment BATON_RATE"));
  EXPECT_THAT(printed, HasSubstr("role: decode  # b.yaml:4"));
  EXPECT_THAT(printed, HasSubstr("model: \"\"  # default"));
}

TEST_F(ConfigTest, PrintedConfigurationReadsBackTheSame) {
  ASSERT_TRUE(schema_.ApplyFlag("workers", "a:1, b:2").ok());
  ASSERT_TRUE(schema_.ApplyFlag("kv.memory", "1.5GiB").ok());
  ASSERT_TRUE(schema_.ApplyFlag("model", "dir: with # odd \"characters\"").ok());
  const std::string printed = schema_.Print();
  Options before = options_;
  options_ = Options{};
  ASSERT_TRUE(schema_.ApplyYaml(printed, "printed").ok()) << printed;
  EXPECT_EQ(options_.workers, before.workers);
  EXPECT_EQ(options_.memory_bytes, before.memory_bytes);
  EXPECT_EQ(options_.model, before.model);
  EXPECT_EQ(options_.timeout, before.timeout);
}

TEST_F(ConfigTest, PrintedNumbersAreNotRounded) {
  ASSERT_TRUE(schema_.ApplyFlag("rate", "0.123456789012345").ok());
  EXPECT_THAT(schema_.Print(), HasSubstr("rate: 0.123456789012345  #"));
}

TEST_F(ConfigTest, AnAliasToItsOwnSectionIsAnUnknownKey) {
  const absl::Status status = schema_.ApplyYaml("http: &h\n  http: *h\n", "b.yaml");
  EXPECT_THAT(std::string(status.message()), HasSubstr("b.yaml:2: unknown key \"http.http\""));
}

TEST_F(ConfigTest, AnUnknownNameIsAnErrorWithoutAValueToo) {
  for (const char* text : {"htpt:\n", "htpt: {}\n", "htpt:\n  port: 1\n"}) {
    const absl::Status status = schema_.ApplyYaml(text, "b.yaml");
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("b.yaml:1: unknown key \"htpt\"; did you mean \"http\"?"))
        << text;
  }
}

TEST_F(ConfigTest, ASettingIsNoSection) {
  const absl::Status status = schema_.ApplyYaml("http:\n  port: {a: 1}\n", "b.yaml");
  EXPECT_THAT(std::string(status.message()), HasSubstr("b.yaml:2: http.port: expected"));
}

TEST_F(ConfigTest, UnknownKeyNamesFileLineAndNearestKey) {
  const absl::Status status = schema_.ApplyYaml("rate: 1\nhttp:\n  prot: 5\n", "b.yaml");
  EXPECT_THAT(std::string(status.message()), HasSubstr("b.yaml:3"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("did you mean \"http.port\"?"));
}

TEST_F(ConfigTest, UnknownEnvironmentVariableNamesTheNearest) {
  const absl::Status status = schema_.ApplyEnvironment({{"BATON_HTTP_PROT", "1"}});
  EXPECT_THAT(std::string(status.message()), HasSubstr("did you mean \"BATON_HTTP_PORT\"?"));
}

TEST_F(ConfigTest, ValueOutOfRangeSaysWhereWhatAndTheRange) {
  const absl::Status status = schema_.ApplyYaml("http:\n  port: 70000\n", "b.yaml");
  EXPECT_EQ(status.message(),
            "b.yaml:2: http.port: \"70000\" is not allowed; expected a whole number from 0 to "
            "65535");
  EXPECT_EQ(options_.port, 8000);
}

TEST_F(ConfigTest, EveryTypeRefusesNonsense) {
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, std::string>>{{"http.port", "12x"},
                                                        {"rate", "nan"},
                                                        {"rate", "11"},
                                                        {"log.json", "maybe"},
                                                        {"role", "boss"},
                                                        {"kv.memory", "-1GiB"},
                                                        {"kv.memory", "1QiB"},
                                                        {"timeout", "3"},
                                                        {"timeout", "2h"},
                                                        {"cpus", "1,x"}}) {
    EXPECT_FALSE(schema_.ApplyFlag(key, value).ok()) << key << "=" << value;
  }
}

TEST_F(ConfigTest, BrokenYamlIsAnErrorWithItsLine) {
  const absl::Status status = schema_.ApplyYaml("rate: [1\nmodel: x", "b.yaml");
  EXPECT_THAT(std::string(status.message()), HasSubstr("b.yaml:"));
  EXPECT_FALSE(schema_.ApplyYaml("- a\n- b\n", "b.yaml").ok());
}

TEST_F(ConfigTest, ANulInTheFileIsAnError) {
  EXPECT_EQ(schema_.ApplyYaml(std::string("role: both\nmodel: a\0b", 21), "f.yaml").message(),
            "f.yaml:2: the file holds a NUL");
}

TEST_F(ConfigTest, ListItemsMayBeMapsOfPlainValues) {
  ASSERT_TRUE(
      schema_.ApplyYaml("workers:\n  - {name: a, x: 1}\n  - name: b\n    x: 2\n", "b.yaml").ok());
  EXPECT_EQ(options_.workers, (std::vector<std::string>{"name=a;x=1", "name=b;x=2"}));
  const absl::Status status = schema_.ApplyYaml("workers:\n  - {name: [a]}\n", "b.yaml");
  EXPECT_EQ(status.message(),
            "b.yaml:1: workers: expected a list of plain values or of maps of them");
  EXPECT_FALSE(schema_.ApplyYaml("workers:\n  - [a, b]\n", "b.yaml").ok());
}

TEST_F(ConfigTest, ListsComeFromYamlSequences) {
  ASSERT_TRUE(schema_.ApplyYaml("workers:\n  - a:1\n  - b:2\ncpus: [0, 1]\n", "b.yaml").ok());
  EXPECT_EQ(options_.workers, (std::vector<std::string>{"a:1", "b:2"}));
  EXPECT_EQ(options_.cpus, (std::vector<int32_t>{0, 1}));
}

TEST(NearestWord, FarWordsHaveNoNearest) {
  EXPECT_EQ(NearestWord("zebra", {"http.port", "model"}), "");
  EXPECT_EQ(NearestWord("modle", {"http.port", "model"}), "model");
  EXPECT_EQ(NearestWord("modle", {"mode", "role", "model"}), "mode") << "equal: the first";
  EXPECT_EQ(NearestWord("--modle", {"--role", "--model"}), "--model") << "a swap is one step";
}

}  // namespace
}  // namespace baton
