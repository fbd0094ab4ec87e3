// The checksum made on the device is that of libxxhash.
#include "engine/kernels/cuda/checksum.h"

#include <random>

#include "common/hash.h"
#include "tests/unit/engine/cuda/cuda_harness.h"

namespace baton {
namespace {

constexpr uint64_t kSeed = 43;

class CudaChecksumTest : public CudaTest {
 protected:
  uint64_t OnDeviceOf(const std::vector<std::byte>& bytes) {
    const auto length = static_cast<int64_t>(bytes.size());
    DeviceArray<std::byte> data = OnDevice(bytes);
    // Neither is clean at the start.
    DeviceArray<uint64_t> sums =
        OnDevice(std::vector<uint64_t>(static_cast<size_t>(ChecksumBlocks(length)) * 8, kSeed));
    DeviceArray<uint64_t> checksum = OnDevice(std::vector<uint64_t>(2, kSeed));
    EXPECT_EQ(EnqueueChecksum(context().stream(), {.data = data.data(),
                                                   .length_bytes = length,
                                                   .sums = sums.data(),
                                                   .checksum = checksum.data()}),
              cudaSuccess);
    const std::vector<uint64_t> found = OnHost(checksum);
    EXPECT_EQ(found[1], kSeed);
    return found[0];
  }
  std::vector<std::byte> Random(int64_t length_bytes) {
    std::vector<std::byte> bytes(static_cast<size_t>(length_bytes));
    for (std::byte& b : bytes) b = static_cast<std::byte>(random_());
    return bytes;
  }

  std::mt19937_64 random_{kSeed};
};

TEST_F(CudaChecksumTest, IsThatOfTheHostAtEveryLength) {
  // All that end a block or a stripe differently; then around what is held at once, 128 blocks.
  std::vector<int64_t> lengths;
  for (int64_t length = 248; length <= 3 * kChecksumBlockBytes + 72; length += 8) {
    lengths.push_back(length);
  }
  for (const int64_t blocks : {127, 128, 129, 255, 256, 257, 400}) {
    for (const int64_t more : {-64, -8, 0, 8, 64, 72, 512}) {
      lengths.push_back(blocks * kChecksumBlockBytes + more);
    }
  }
  for (const int64_t length : lengths) {
    const std::vector<std::byte> bytes = Random(length);
    EXPECT_EQ(OnDeviceOf(bytes), HashBytes(bytes.data(), bytes.size())) << length;
  }
}

TEST_F(CudaChecksumTest, SeesEveryWord) {
  std::vector<std::byte> bytes = Random(2 * kChecksumBlockBytes + 200);
  const uint64_t before = OnDeviceOf(bytes);
  for (size_t at = 0; at < bytes.size(); at += 88) {
    bytes[at] ^= std::byte{1};
    EXPECT_NE(OnDeviceOf(bytes), before) << at;
    bytes[at] ^= std::byte{1};
  }
}

}  // namespace
}  // namespace baton
