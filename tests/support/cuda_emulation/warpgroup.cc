// Layouts: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions". Only the descriptors that
// our kernels make are known: 128-byte swizzle, base offset 0.
#include "tests/support/cuda_emulation/warpgroup.h"

#include <algorithm>
#include <cstring>

#include "engine/kernels/bf16.h"
#include "tests/support/cuda_emulation/observer.h"
#include "tests/support/cuda_emulation/shared_memory.h"

namespace baton::cuda_emulation {

namespace {

constexpr int kRows = 64;
constexpr int kDepth = 16;
constexpr int kMostColumns = 256;
constexpr std::byte kPoison{0xff};  // floats of it are NaN
// The first addresses of a block's shared memory are the system's own on 9.0.
constexpr uint32_t kFirstSharedAddress = 1024;

// Fields of a descriptor, in bytes.
struct Descriptor {
  explicit Descriptor(uint64_t bits)
      : start(Decode(bits)),
        leading(Decode(bits >> 16)),
        stride(Decode(bits >> 32)),
        base_offset(static_cast<uint32_t>(bits >> 49 & 7)),
        swizzle(static_cast<uint32_t>(bits >> 62)) {}

  uint32_t start, leading, stride, base_offset, swizzle;

 private:
  static uint32_t Decode(uint64_t bits) { return static_cast<uint32_t>(bits & 0x3fff) << 4; }
};

// Where number [k][n] lies before the address is turned.
uint32_t Offset(const Descriptor& descriptor, bool n_major, uint32_t k, uint32_t n) {
  constexpr uint32_t kLineBytes = 128;
  constexpr uint32_t kLine = kLineBytes / sizeof(uint16_t);
  if (n_major) {
    return n / kLine * descriptor.leading + n % kLine * uint32_t{sizeof(uint16_t)} +
           k / 8 * descriptor.stride + k % 8 * kLineBytes;
  }
  return n / 8 * descriptor.stride + n % 8 * kLineBytes + k * uint32_t{sizeof(uint16_t)};
}

// Where it lies.
const std::byte* Address(const SharedOperand& operand, uint32_t k, uint32_t n, const Place& where) {
  const Descriptor descriptor(operand.descriptor);
  const uint32_t plain = descriptor.start + Offset(descriptor, operand.n_major, k, n);
  const uint32_t turned = plain ^ (plain >> 7 & 7) << 4;
  const size_t offset = size_t{turned} - kFirstSharedAddress;
  if (turned < kFirstSharedAddress || offset + sizeof(uint16_t) > DynamicSharedBytes()) {
    Fail("a matrix beyond dynamic shared memory", where);
  }
  return SharedMemory() + offset;
}

std::vector<uint16_t> ReadOperand(const SharedOperand& operand, const Place& where) {
  const auto columns = static_cast<uint32_t>(operand.columns);
  std::vector<uint16_t> numbers(kDepth * columns);
  for (uint32_t k = 0; k < kDepth; ++k) {
    for (uint32_t n = 0; n < columns; ++n) {
      std::memcpy(&numbers[k * columns + n], Address(operand, k, n, where), sizeof(uint16_t));
    }
  }
  return numbers;
}

// Calls `visit` with the address of every 16 bytes of it.
template <typename Visit>
void ForEachPiece(const SharedOperand& operand, const Place& where, Visit visit) {
  const uint32_t k_step = operand.n_major ? 1 : 8;
  const uint32_t n_step = operand.n_major ? 8 : 1;
  for (uint32_t k = 0; k < kDepth; k += k_step) {
    for (uint32_t n = 0; n < static_cast<uint32_t>(operand.columns); n += n_step) {
      visit(Address(operand, k, n, where));
    }
  }
}

void CheckOperand(const SharedOperand& operand, const Place& where) {
  const Descriptor descriptor(operand.descriptor);
  if (descriptor.swizzle != 1 || descriptor.base_offset != 0) {
    Fail("a matrix descriptor whose layout is not emulated", where);
  }
  ForEachPiece(operand, where, [&](const std::byte* piece) { CheckCopyIsVisible(piece, where); });
}

// A warp reads it from the start of a product until it has waited; its first thread stands for it.
void ObserveOperand(const SharedOperand& operand, int thread, const Place& where) {
  if (observer == nullptr) return;
  ForEachPiece(operand, where, [&](const std::byte* piece) {
    observer->Reads({thread, piece, 16, operand.code});
  });
}

struct StartLane {
  const Product* product;
  float* sums;
  std::shared_ptr<SharedOperand> operand;  // comes from the combination
  const Place* where;
  const void* code;
};

float Number(uint16_t bits) { return ToFloat(Bf16{bits}); }
float Half(uint32_t packed, int which) {
  return Number(static_cast<uint16_t>(which == 0 ? packed : packed >> 16));
}

// Row and column of number i of d[column / 8] of a lane, and of the pairs of a.
int RowOf(int lane, int second) { return lane / kLanes * 16 + lane % kLanes / 4 + 8 * second; }
int ColumnOf(int lane) { return lane % 4 * 2; }

void CombineStart(const WarpgroupExchange& exchange) {
  const auto at = [&](int lane) { return static_cast<StartLane*>(exchange.threads[lane]); };
  const Product& first = *at(0)->product;
  const Place& where = *at(0)->where;
  static float a[kRows][kDepth];
  static float b[kDepth][kMostColumns];
  static float d[kRows][kMostColumns];
  for (int lane = 0; lane < kWarpgroupThreads; ++lane) {
    const Product& product = *at(lane)->product;
    if (product.b != first.b || product.columns != first.columns ||
        product.n_major != first.n_major || product.adds != first.adds) {
      Fail("threads of a warpgroup with different products", where);
    }
    for (int i = 0; i < 8; ++i) {
      a[RowOf(lane, i / 2 % 2)][ColumnOf(lane) + i / 4 * 8 + i % 2] = Half(product.a[i / 2], i % 2);
    }
    for (int i = 0; i < first.columns / 2; ++i) {
      d[RowOf(lane, i / 2 % 2)][i / 4 * 8 + ColumnOf(lane) + i % 2] =
          first.adds ? at(lane)->sums[i] : 0.0f;
    }
  }
  auto operand = std::make_shared<SharedOperand>();
  operand->descriptor = first.b;
  operand->n_major = first.n_major;
  operand->columns = first.columns;
  operand->code = at(0)->code;
  CheckOperand(*operand, where);
  for (int warp = 0; warp < kWarpgroupThreads; warp += kLanes) {
    ObserveOperand(*operand, exchange.first_thread + warp, where);
  }
  operand->numbers = ReadOperand(*operand, where);
  for (int k = 0; k < kDepth; ++k) {
    for (int n = 0; n < first.columns; ++n) {
      b[k][n] = Number(operand->numbers[static_cast<size_t>(k * first.columns + n)]);
    }
  }
  // In the order in which mma of warp.cc adds.
  for (int row = 0; row < kRows; ++row) {
    for (int k = 0; k < kDepth; ++k) {
      for (int n = 0; n < first.columns; ++n) d[row][n] += a[row][k] * b[k][n];
    }
  }
  for (int lane = 0; lane < kWarpgroupThreads; ++lane) {
    at(lane)->operand = operand;
    for (int i = 0; i < first.columns / 2; ++i) {
      at(lane)->sums[i] = d[RowOf(lane, i / 2 % 2)][i / 4 * 8 + ColumnOf(lane) + i % 2];
    }
  }
}

bool Overlap(const void* x, size_t x_bytes, const void* y, size_t y_bytes) {
  const auto* x_begin = static_cast<const std::byte*>(x);
  const auto* y_begin = static_cast<const std::byte*>(y);
  return x_begin < y_begin + y_bytes && y_begin < x_begin + x_bytes;
}

// Whether these registers are as a fence found them.
bool WasHandedOver(const ProductsOfThread& self, const void* registers, size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(registers);
  return std::any_of(self.handed_over.begin(), self.handed_over.end(),
                     [&](const ProductsOfThread::Registers& handed) {
                       if (begin < handed.begin) return false;
                       const auto offset = static_cast<size_t>(begin - handed.begin);
                       return offset + bytes <= handed.contents.size() &&
                              std::memcmp(begin, handed.contents.data() + offset, bytes) == 0;
                     });
}

void ForgetHandover(ProductsOfThread& self, const void* registers, size_t bytes) {
  std::erase_if(self.handed_over, [&](const ProductsOfThread::Registers& handed) {
    return Overlap(handed.begin, handed.contents.size(), registers, bytes);
  });
}

ProductsOfThread::Sums* FindSums(ProductsOfThread& self, const float* d) {
  const auto found = std::find_if(self.sums.begin(), self.sums.end(),
                                  [&](const ProductsOfThread::Sums& sums) { return sums.d == d; });
  return found == self.sums.end() ? nullptr : &*found;
}

void CheckNotUnderWay(ProductsOfThread& self, const void* registers, size_t bytes,
                      const Place& where) {
  for (const ProductsOfThread::Sums& sums : self.sums) {
    if (Overlap(sums.d, sums.values.size() * sizeof(float), registers, bytes)) {
      Fail("registers of a product's sums before it was waited for", where);
    }
  }
  const auto check = [&](const std::vector<ProductsOfThread::Started>& group) {
    for (const ProductsOfThread::Started& started : group) {
      if (Overlap(started.a, sizeof(started.a_contents), registers, bytes)) {
        Fail("registers of a product's first matrix before it was waited for", where);
      }
    }
  };
  check(self.uncommitted);
  for (const auto& group : self.groups) check(group);
}

void Deliver(ProductsOfThread& self, const ProductsOfThread::Started& started, const Place& where) {
  if (std::memcmp(started.a, started.a_contents.data(), sizeof(started.a_contents)) != 0) {
    Fail("the first matrix of a product was changed before it was waited for", where);
  }
  if (LaneIndex() == 0) ObserveOperand(*started.b, ThreadIndex(), where);
  if (--started.b->threads == 0 && ReadOperand(*started.b, where) != started.b->numbers) {
    Fail("shared memory was changed before all had waited for a product that reads it", where);
  }
  ProductsOfThread::Sums* sums = FindSums(self, started.d);
  if (--sums->products > 0) return;
  const auto* found = reinterpret_cast<const std::byte*>(sums->d);
  if (!std::all_of(found, found + sums->values.size() * sizeof(float),
                   [](std::byte b) { return b == kPoison; })) {
    Fail("the sums of a product were changed before it was waited for", where);
  }
  std::copy(sums->values.begin(), sums->values.end(), sums->d);
  self.sums.erase(self.sums.begin() + (sums - self.sums.data()));
}

}  // namespace

uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(static_cast<const std::byte*>(shared) - SharedMemory()) +
         kFirstSharedAddress;
}

void HandOver(void* registers, size_t bytes, const Place& where) {
  ProductsOfThread& self = CurrentProducts();
  CheckNotUnderWay(self, registers, bytes, where);
  ForgetHandover(self, registers, bytes);
  const auto* begin = static_cast<const std::byte*>(registers);
  self.handed_over.push_back({begin, {begin, begin + bytes}});
}

void StartProduct(const Product& product, const Place& where) {
  ProductsOfThread& self = CurrentProducts();
  const auto count = static_cast<size_t>(product.columns) / 2;
  const size_t bytes = count * sizeof(float);
  ProductsOfThread::Started started{.d = product.d, .a = product.a, .a_contents = {}, .b = nullptr};
  if (!WasHandedOver(self, product.a, sizeof(started.a_contents))) {
    Fail("the first matrix of a product was not handed over by a fence", where);
  }
  std::memcpy(started.a_contents.data(), product.a, sizeof(started.a_contents));
  ProductsOfThread::Sums* sums = FindSums(self, product.d);
  if (sums == nullptr) {
    if (!WasHandedOver(self, product.d, bytes)) {
      Fail("the sums of a product were not handed over by a fence", where);
    }
    ForgetHandover(self, product.d, bytes);
    self.sums.push_back({product.d, {product.d, product.d + count}, 0});
    std::memset(product.d, static_cast<int>(kPoison), bytes);
    sums = &self.sums.back();
  } else if (sums->values.size() != count) {
    Fail("products of different shapes with the same sums", where);
  }
  ++sums->products;
  StartLane lane{.product = &product,
                 .sums = sums->values.data(),
                 .operand = nullptr,
                 .where = &where,
                 .code = __builtin_return_address(0)};
  WarpgroupCollective(&lane, &CombineStart, where);
  started.b = std::move(lane.operand);
  self.uncommitted.push_back(std::move(started));
}

void CommitProducts() {
  ProductsOfThread& self = CurrentProducts();
  self.groups.push_back(std::move(self.uncommitted));
  self.uncommitted.clear();
}

void WaitForProducts(int pending, const Place& where) {
  ProductsOfThread& self = CurrentProducts();
  while (static_cast<int>(self.groups.size()) > pending) {
    for (const ProductsOfThread::Started& started : self.groups.front()) {
      Deliver(self, started, where);
    }
    self.groups.pop_front();
  }
}

void TakeBack(const void* registers, size_t bytes, const Place& where) {
  CheckNotUnderWay(CurrentProducts(), registers, bytes, where);
}

}  // namespace baton::cuda_emulation
