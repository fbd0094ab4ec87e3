// The matrix instructions, with the fragment layouts of the PTX ISA ("Matrix multiply-accumulate
// operation using mma instruction", "ldmatrix").
#include <bit>
#include <cstring>

#include "engine/kernels/bf16.h"
#include "tests/support/cuda_emulation/block.h"
#include "tests/support/cuda_emulation/observer.h"

namespace baton::cuda_emulation {

namespace {

constexpr uint32_t kAllLanes = 0xffffffffu;
constexpr int kSide = 8;  // of a matrix of ldmatrix

struct LoadLane {
  const void* row;
  uint32_t* fragment;
  const void* code;
};

// A lane reads what it gets of a matrix, whoever named the rows.
template <bool transposed>
void ObserveLoad(const WarpExchange& exchange, int matrix, int lane) {
  const auto read = [&](int row, int column, size_t bytes) {
    const auto* from = static_cast<const LoadLane*>(exchange.lanes[matrix * kSide + row]);
    observer->Reads({exchange.first_thread + lane, static_cast<const uint16_t*>(from->row) + column,
                     bytes, from->code});
  };
  const int major = lane / 4;
  const int minor = lane % 4 * 2;
  if (transposed) {
    read(minor, major, sizeof(uint16_t));
    read(minor + 1, major, sizeof(uint16_t));
  } else {
    read(major, minor, 2 * sizeof(uint16_t));
  }
}

template <bool transposed>
void CombineLoad(const WarpExchange& exchange) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t numbers[kSide][kSide];
    for (int row = 0; row < kSide; ++row) {
      const auto* from = static_cast<const LoadLane*>(exchange.lanes[matrix * kSide + row]);
      std::memcpy(numbers[row], from->row, sizeof(numbers[row]));
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      const int major = lane / 4;
      const int minor = lane % 4 * 2;
      const uint16_t low = transposed ? numbers[minor][major] : numbers[major][minor];
      const uint16_t high = transposed ? numbers[minor + 1][major] : numbers[major][minor + 1];
      static_cast<const LoadLane*>(exchange.lanes[lane])->fragment[matrix] =
          uint32_t{low} | uint32_t{high} << 16;
      if (observer != nullptr) ObserveLoad<transposed>(exchange, matrix, lane);
    }
  }
}

struct MmaLane {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};

float Half(uint32_t packed, int which) {
  return ToFloat(Bf16{static_cast<uint16_t>(which == 0 ? packed : packed >> 16)});
}

void CombineMma(const WarpExchange& exchange) {
  float a[16][16];
  float b[16][8];
  float d[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto* from = static_cast<const MmaLane*>(exchange.lanes[lane]);
    const int group = lane / 4;
    const int in_group = lane % 4;
    for (int half = 0; half < 2; ++half) {
      const int column = in_group * 2 + half;
      a[group][column] = Half(from->a[0], half);
      a[group + 8][column] = Half(from->a[1], half);
      a[group][column + 8] = Half(from->a[2], half);
      a[group + 8][column + 8] = Half(from->a[3], half);
      b[column][group] = Half(from->b[0], half);
      b[column + 8][group] = Half(from->b[1], half);
    }
  }
  // Calls `visit` with each number of d where a lane has it and in the whole.
  const auto for_each_sum = [&](auto visit) {
    for (int lane = 0; lane < kLanes; ++lane) {
      float* of_lane = static_cast<const MmaLane*>(exchange.lanes[lane])->d;
      for (int i = 0; i < 4; ++i) {
        visit(of_lane[i], d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
      }
    }
  };
  for_each_sum([](float& of_lane, float& whole) { whole = of_lane; });
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) d[row][n] += a[row][k] * b[k][n];
    }
  }
  for_each_sum([](float& of_lane, float& whole) { of_lane = whole; });
}

}  // namespace

void LoadMatrix4(uint32_t (&fragment)[4], const void* shared_row, bool transposed,
                 const Place& where) {
  if (reinterpret_cast<uintptr_t>(shared_row) % 16 != 0) {
    Fail("a matrix row that is not aligned to 16", where);
  }
  LoadLane lane{.row = shared_row, .fragment = fragment, .code = __builtin_return_address(0)};
  WarpCollective(kAllLanes, &lane, transposed ? &CombineLoad<true> : &CombineLoad<false>, where);
}

void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Place& where) {
  MmaLane lane{.d = d, .a = a, .b = b};
  WarpCollective(kAllLanes, &lane, &CombineMma, where);
}

}  // namespace baton::cuda_emulation
