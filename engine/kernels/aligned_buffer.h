// Memory for weights and scratch.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace baton {

// Owns zeroed bytes, aligned to 64 bytes (to 2 MiB, with huge pages advised, when large). Large
// ones take memory with each page's first use. Move-only.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes);

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }
  // At least `bytes` long; the contents are lost when it grows.
  void Reserve(size_t bytes) {
    if (bytes > size_) *this = AlignedBuffer(bytes);
  }
  template <typename T>
  T* As() {
    return reinterpret_cast<T*>(data_.get());
  }
  template <typename T>
  const T* As() const {
    return reinterpret_cast<const T*>(data_.get());
  }

 private:
  struct Free {
    std::align_val_t alignment;
    void operator()(std::byte* data) const { ::operator delete(data, alignment); }
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

}  // namespace baton
