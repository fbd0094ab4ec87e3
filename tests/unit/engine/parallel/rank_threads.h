// The ranks of a group as threads of a test.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/check.h"
#include "engine/parallel/shared_memory_communicator.h"

namespace baton {

// A directory of its own, removed at the end.
class TestDirectory {
 public:
  TestDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "baton-test-ranks-XXXXXX";
    BATON_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TestDirectory() { std::filesystem::remove_all(path_); }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The memory of a group, and how its ranks join it.
class TestGroup {
 public:
  explicit TestGroup(int32_t size) : size_(size) {
    const absl::StatusOr<int> fd = GroupMemory::CreateFile(size);
    BATON_CHECK(fd.ok()) << fd.status().ToString();
    fd_ = *fd;
    memory_ = Map();
  }
  ~TestGroup() { close(fd_); }
  TestGroup(const TestGroup&) = delete;
  TestGroup& operator=(const TestGroup&) = delete;

  int fd() const { return fd_; }
  // One for all threads, so that a sanitizer sees what they do with the same memory.
  const std::shared_ptr<GroupMemory>& memory() const { return memory_; }
  // Another, as each process has.
  std::shared_ptr<GroupMemory> Map() const {
    auto memory = GroupMemory::Map(fd_, size_);
    BATON_CHECK(memory.ok()) << memory.status().ToString();
    return *std::move(memory);
  }

 private:
  const int32_t size_;
  int fd_ = -1;
  std::shared_ptr<GroupMemory> memory_;  // with the communicators of the ranks
};

// How a rank joins the group. May be called when the group itself has gone.
inline auto JoinIn(const TestGroup& group, int32_t rank) {
  return [memory = group.memory(), rank] { return ConnectSharedMemory(memory, {.rank = rank}); };
}

// Runs `body` once for each rank at the same time, and waits for all.
inline void RunRanks(int32_t size, const std::function<void(int32_t rank)>& body) {
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < size; ++rank) threads.emplace_back([&body, rank] { body(rank); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace baton
