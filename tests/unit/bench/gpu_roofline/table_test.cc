#include "bench/gpu_roofline/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace baton::roofline {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

// 2,000 GB/s, 500 TFLOP/s, 40 GB/s.
Part CeilingsPart() {
  return {.name = kCeilingsPart,
          .device = "a device",
          .rows = {{.name = kCopyRow, .samples_ms = {1.0}, .work = {.bytes = 2e9}},
                   {.name = kProductRow, .samples_ms = {2.0}, .work = {.flop = 1e12}},
                   {.name = kUploadRow, .samples_ms = {1.0}, .work = {.bus_bytes = 4e7}}}};
}
Part OneRow(Row row) { return {.name = "ops", .device = "a device", .rows = {std::move(row)}}; }
Part PeerPart(std::vector<Row> rows) {
  return {.name = kPeerPart, .device = "a device", .note = "PyTorch 2", .rows = std::move(rows)};
}

TEST(Row, MedianAndSpreadAreOfTheSortedSamples) {
  const Row row{.samples_ms = {5, 1, 3, 2, 4}};
  EXPECT_EQ(MedianMs(row), 3);
  EXPECT_NEAR(Spread(row), 2.0 / 3, 1e-12);
  EXPECT_EQ(Quantile({1, 2}, 0.5), 1.5);
  EXPECT_EQ(Quantile({7}, 0.75), 7);
  EXPECT_EQ(MedianMs({}), 0);
  EXPECT_EQ(Spread({}), 0);
}

TEST(Table, HoldsARowAgainstItsFloorsAndItsPeer) {
  const Report report =
      MakeReport({CeilingsPart(),
                  OneRow({.name = "decode",
                          .samples_ms = {6.0, 6.2, 5.8},
                          .work = {.bytes = 1e10},
                          .target_ms = 6.5}),
                  PeerPart({{.name = "decode", .samples_ms = {8, 8}, .variant = "flash"},
                            {.name = "decode", .samples_ms = {7}, .variant = "cudnn"}}),
                  PeerPart({{.name = "decode", .samples_ms = {9, 9, 9}, .variant = "cudnn"},
                            {.name = "decode", .variant = "efficient", .error = "none"}})},
                 {});
  EXPECT_EQ(report.outcome, Outcome::kMeasured);
  // Floors of 5 and, at the nominal 3.0 TB/s, 3.333 ms. cuDNN's samples are 7, 9, 9, 9.
  EXPECT_THAT(report.text, ContainsRegex("decode +6 +3.3% +5 +1.20 +3.333 +1667 GB/s +8 +0.75 +"
                                         "6.5 ms met +flash"));
  EXPECT_THAT(report.text, HasSubstr("copy 2000 GB/s"));
  EXPECT_THAT(report.text, ContainsRegex("decode +cudnn 9  efficient no  flash 8  -> flash\n"));
  EXPECT_THAT(report.text, Not(HasSubstr("FAILED")));
  EXPECT_THAT(report.text, Not(HasSubstr("emulated")));
  const nlohmann::json json = nlohmann::json::parse(report.json);
  const nlohmann::json& row = json["rows"].back();
  EXPECT_EQ(row["name"], "decode");
  EXPECT_EQ(row["median_ms"], 6.0);
  EXPECT_EQ(row["floor_ms"], 5.0);
  EXPECT_EQ(row["torch_ms"], 8.0);
  EXPECT_EQ(row["met"], true);
  EXPECT_EQ(json["peer_ran"], true);
}

TEST(Table, HoldsOurWaysAgainstOneAnotherAndThePeer) {
  const Part ours{.name = "attention",
                  .device = "a device",
                  .rows = {{.name = "prefill", .samples_ms = {6}, .variant = "mma.sync"},
                           {.name = "prefill", .samples_ms = {3}, .variant = "wgmma"},
                           {.name = "decode", .samples_ms = {1}},
                           {.name = "step", .samples_ms = {8}},
                           {.name = "step", .variant = "wgmma", .error = "none"}}};
  const Report report =
      MakeReport({CeilingsPart(), ours,
                  PeerPart({{.name = "prefill", .samples_ms = {4}, .variant = "cudnn"}})},
                 {});
  EXPECT_THAT(report.text, ContainsRegex("prefill, mma.sync +6 .* 4 +1.50 +cudnn\n"));
  EXPECT_THAT(report.text, ContainsRegex("prefill, wgmma +3 .* 4 +0.75 +cudnn\n"));
  EXPECT_THAT(report.text, ContainsRegex("-- our ways, ms\nprefill +mma.sync 6  wgmma 3  -> wgmma\n"
                                         "step +default 8  wgmma no  -> default\n"));
  EXPECT_THAT(report.text, HasSubstr("FAILED attention, step, wgmma: none\n"));
  EXPECT_THAT(report.text, Not(HasSubstr("PyTorch's ways")));
  const nlohmann::json rows = nlohmann::json::parse(report.json)["rows"];
  EXPECT_EQ(rows[4]["variant"], "wgmma");
  EXPECT_EQ(rows[4]["torch_ms"], 4.0);
  EXPECT_EQ(rows[5].count("variant"), 0u);
}

Part FlashInferPart(std::vector<Row> rows) {
  return {.name = kFlashInferPart,
          .device = "a device",
          .note = "FlashInfer 0",
          .rows = std::move(rows)};
}

TEST(Table, FlashInferIsHeldAgainstUsInItsOwnName) {
  const Part ours{.name = "attention",
                  .rows = {{.name = "prefill", .samples_ms = {6}, .variant = "mma.sync"},
                           {.name = "prefill", .samples_ms = {3}, .variant = "wgmma"},
                           {.name = "decode", .samples_ms = {1}},
                           {.name = "other", .samples_ms = {1}}}};
  const Report report =
      MakeReport({CeilingsPart(), ours,
                  FlashInferPart({{.name = "prefill", .samples_ms = {4}, .variant = "FA2"},
                                  {.name = "prefill", .samples_ms = {2}, .variant = "FA3"},
                                  {.name = "decode", .samples_ms = {2}, .variant = "CUDA cores"},
                                  {.name = "other", .variant = "FA2", .error = "no such heads"}}),
                  PeerPart({{.name = "prefill", .samples_ms = {2.5}, .variant = "cudnn"}})},
                 {});
  EXPECT_EQ(report.outcome, Outcome::kMeasured);
  EXPECT_THAT(report.text, HasSubstr("peer: a device, FlashInfer 0\n"));
  EXPECT_THAT(report.text, ContainsRegex("prefill, wgmma +3 .* 2.5 +1.20 +cudnn\n"));
  EXPECT_THAT(report.text, ContainsRegex("decode +1 +0.0% +\n")) << "no column of PyTorch's";
  EXPECT_THAT(report.text, ContainsRegex("-- FlashInfer's ways, ms\n"
                                         "prefill +FA2 4  FA3 2  -> FA3\n"));
  EXPECT_THAT(
      report.text,
      ContainsRegex("-- by whom, ms\n"
                    "decode +ours 1 .default.  FlashInfer 2 .CUDA cores.  -> ours, ours / it 1.00\n"
                    "prefill +ours 3 .wgmma.  PyTorch 2.5 .cudnn.  FlashInfer 2 .FA3.  "
                    "-> FlashInfer, ours / it 1.50\n"
                    "FlashInfer, other, FA2: no such heads\n"));
  const nlohmann::json json = nlohmann::json::parse(report.json);
  EXPECT_EQ(json["rows"].size(), 7u) << "none of FlashInfer's";
  EXPECT_EQ(json["rows"][4]["flashinfer_ms"], 2.0);
  EXPECT_EQ(json["rows"][4]["flashinfer_variant"], "FA3");
  EXPECT_EQ(json["rows"][4]["torch_ms"], 2.5);
  EXPECT_EQ(json["rows"][5].count("torch_ms"), 0u);
  EXPECT_EQ(json["flashinfer_ran"], true);
}

TEST(Table, FlashInferThatIsNotThereOrFailsIsNoFailureAndNoPeer) {
  Part broken = FlashInferPart({});
  broken.error = "illegal address";
  const Report report = MakeReport({CeilingsPart(), broken}, {});
  EXPECT_EQ(report.outcome, Outcome::kPeerNotRun);
  EXPECT_THAT(report.text, HasSubstr("FlashInfer: illegal address\n"));
  EXPECT_THAT(report.text, Not(HasSubstr("FAILED")));
  EXPECT_THAT(report.text, Not(HasSubstr("was not measured")));
  EXPECT_EQ(nlohmann::json::parse(report.json)["flashinfer_ran"], false);
  EXPECT_THAT(MakeReport({CeilingsPart()}, {}).text, HasSubstr("FlashInfer was not measured\n"));
}

TEST(Table, ATargetMayBeAShareOfTheMeasuredFloorsRate) {
  const auto text_of = [](double ms) {
    const Row row{
        .name = "norm", .samples_ms = {ms}, .work = {.bytes = 1.7e9}, .target_share = 0.85};
    return MakeReport({CeilingsPart(), OneRow(row), PeerPart({})}, {}).text;
  };
  EXPECT_THAT(text_of(0.999), HasSubstr("85 % met"));
  EXPECT_THAT(text_of(1.001), HasSubstr("85 % MISSED"));
}

TEST(Table, SaysThatThereWasNoPeer) {
  const Report report = MakeReport({CeilingsPart()}, {});
  EXPECT_EQ(report.outcome, Outcome::kPeerNotRun);
  EXPECT_THAT(report.text, HasSubstr("no PyTorch: peer not run\n"));
}

TEST(Table, APeerThatWasNotAskedForIsNotMissed) {
  const Report report = MakeReport({CeilingsPart()}, {}, /*peer_wanted=*/false);
  EXPECT_EQ(report.outcome, Outcome::kMeasured);
  EXPECT_THAT(report.text, HasSubstr("the peer was not asked for\n"));
  EXPECT_THAT(report.text, Not(HasSubstr("no PyTorch")));
}

TEST(Table, APeerThatMeasuredNothingFailed) {
  const Report report = MakeReport(
      {CeilingsPart(), PeerPart({{.name = "decode", .variant = "mm", .error = "illegal"}})}, {});
  EXPECT_EQ(report.outcome, Outcome::kFailed);
  EXPECT_THAT(report.text, HasSubstr("FAILED peer: none of its rows was measured\n"));
}

TEST(Table, NamesEverythingThatFailed) {
  Part broken = OneRow({.name = "norm", .error = "INTERNAL: illegal address"});
  broken.error = "it ended early";
  const Report report = MakeReport({CeilingsPart(), broken}, {"tests: status 1"});
  EXPECT_EQ(report.outcome, Outcome::kFailed);
  EXPECT_THAT(report.text, HasSubstr("FAILED tests: status 1\n"));
  EXPECT_THAT(report.text, HasSubstr("FAILED ops: it ended early\n"));
  EXPECT_THAT(report.text, HasSubstr("FAILED ops, norm: INTERNAL: illegal address\n"));
  EXPECT_THAT(report.text, ContainsRegex("norm +FAILED: INTERNAL"));
  EXPECT_EQ(nlohmann::json::parse(report.json)["failures"].size(), 3u);
  EXPECT_EQ(MakeReport({}, {}).outcome, Outcome::kFailed) << "nothing was measured";
}

TEST(Table, AFailedRowHasNoTimeAndMeetsNothing) {
  const Report report =
      MakeReport({CeilingsPart(),
                  OneRow({.name = "decode", .work = {.bytes = 1e10}, .target_ms = 6, .error = "a"}),
                  OneRow({.name = "norm", .target_share = 0.85, .error = "b"}),
                  OneRow({.name = "host", .error = "c"})},
                 {});
  const nlohmann::json rows = nlohmann::json::parse(report.json)["rows"];
  ASSERT_EQ(rows.size(), 6u);
  using Json = nlohmann::json;
  EXPECT_EQ(rows[3], Json({{"part", "ops"}, {"name", "decode"}, {"error", "a"}, {"met", false}}));
  EXPECT_EQ(rows[4], Json({{"part", "ops"}, {"name", "norm"}, {"error", "b"}, {"met", false}}));
  EXPECT_EQ(rows[5], Json({{"part", "ops"}, {"name", "host"}, {"error", "c"}}));
}

TEST(Table, WithoutCeilingsThereAreNominalFloorsOnly) {
  const Report report =
      MakeReport({OneRow({.name = "norm", .samples_ms = {1}, .work = {.bytes = 1.5e9}})}, {});
  EXPECT_THAT(report.text, ContainsRegex("norm +1 +0.0% +0.5 +1500 GB/s"));
}

TEST(Table, ARowWithoutWorkHasATimeAlone) {
  const Report report = MakeReport({OneRow({.name = "host", .samples_ms = {0.5}})}, {});
  EXPECT_THAT(report.text, ContainsRegex("host +0.5 +0.0% +\n"));
}

TEST(Table, SaysFirstAndLastThatEmulatedTimesMeanNothing) {
  Part part = CeilingsPart();
  part.emulated = true;
  const std::string text = MakeReport({part}, {}).text;
  EXPECT_THAT(text, testing::StartsWith("emulated: times mean nothing\n"));
  EXPECT_THAT(text, testing::EndsWith("emulated: times mean nothing\n"));
}

}  // namespace
}  // namespace baton::roofline
