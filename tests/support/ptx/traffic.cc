#include "tests/support/ptx/traffic.h"

#include <algorithm>
#include <array>
#include <utility>

namespace baton::ptx {

namespace {

constexpr uint64_t kSectorBytes = 32;
constexpr uint64_t kBanks = 32;
constexpr uint64_t kBankBytes = 4;
constexpr size_t kWavefrontBytes = kBanks * kBankBytes;

using Lanes = std::vector<std::pair<int, uint64_t>>;

// Sorted, each once.
std::vector<uint64_t> Distinct(std::vector<uint64_t> numbers) {
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

std::vector<uint64_t> SectorsOf(const Lanes& lanes) {
  std::vector<uint64_t> sectors;
  for (const auto& [lane, address] : lanes) sectors.push_back(address / kSectorBytes);
  return Distinct(std::move(sectors));
}

// As many as the bank has in which most words lie, for each part of the warp.
uint64_t Wavefronts(const Lanes& lanes, size_t bytes, uint64_t* parts_in_use) {
  const int lanes_of_part = static_cast<int>(kWavefrontBytes / std::max(bytes, size_t{kBankBytes}));
  uint64_t wavefronts = 0;
  for (int first = 0; first < cuda_emulation::kLanes; first += lanes_of_part) {
    std::vector<uint64_t> words;
    for (const auto& [lane, address] : lanes) {
      if (lane < first || lane >= first + lanes_of_part) continue;
      const uint64_t last = (address + bytes - 1) / kBankBytes;
      for (uint64_t word = address / kBankBytes; word <= last; ++word) words.push_back(word);
    }
    if (words.empty()) continue;
    std::array<uint64_t, kBanks> in_bank{};
    for (const uint64_t word : Distinct(std::move(words))) ++in_bank[word % kBanks];
    wavefronts += *std::max_element(in_bank.begin(), in_bank.end());
    ++*parts_in_use;
  }
  return wavefronts;
}

}  // namespace

TrafficCounter::TrafficCounter() { traffic = this; }
TrafficCounter::~TrafficCounter() { traffic = nullptr; }

void TrafficCounter::Comes(const Thread& thread, const Instruction& instruction) {
  const auto index = static_cast<size_t>(cuda_emulation::ThreadIndex());
  if (visits_.size() <= index) visits_.resize(index + 1);
  visits_[index].resize(thread.kernel->code.size());
  ++visits_[index][static_cast<size_t>(&instruction - thread.kernel->code.data())];
}

void TrafficCounter::Asks(const Thread& thread, const Instruction& instruction, Space space,
                          uint64_t address, size_t bytes) {
  const int index = cuda_emulation::ThreadIndex();
  const auto number = static_cast<size_t>(&instruction - thread.kernel->code.data());
  const uint32_t visit = visits_[static_cast<size_t>(index)][number];
  Request& request = requests_[{index / cuda_emulation::kLanes, &instruction, space, visit}];
  request.site = {&instruction, space};
  request.bytes = bytes;
  request.lanes.emplace_back(cuda_emulation::LaneIndex(), address);
}

void TrafficCounter::EndBlock() {
  for (const auto& [key, request] : requests_) Count(request);
  requests_.clear();
  visits_.clear();
}

// Addresses are aligned to the bytes that are asked for: two lanes ask for the same ones or for
// none in common, and no lane's lie in two sectors.
void TrafficCounter::Count(const Request& request) {
  Traffic& site = sites_[request.site];
  ++site.requests;
  std::vector<uint64_t> addresses;
  for (const auto& [lane, address] : request.lanes) addresses.push_back(address);
  const uint64_t bytes = Distinct(std::move(addresses)).size() * request.bytes;
  site.bytes += bytes;
  if (request.site.space == Space::kShared) {
    site.units += Wavefronts(request.lanes, request.bytes, &site.least_units);
    return;
  }
  const std::vector<uint64_t> sectors = SectorsOf(request.lanes);
  site.units += sectors.size();
  site.least_units += (bytes + kSectorBytes - 1) / kSectorBytes;
  sectors_.insert(sectors.begin(), sectors.end());
}

Traffic TrafficCounter::Sum(Space space) const {
  Traffic sum;
  for (const auto& [site, of_site] : sites_) {
    if (site.space != space) continue;
    sum.requests += of_site.requests;
    sum.bytes += of_site.bytes;
    sum.units += of_site.units;
    sum.least_units += of_site.least_units;
  }
  return sum;
}

}  // namespace baton::ptx
