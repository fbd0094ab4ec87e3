// A directory like /sys/devices/system/node.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace baton {

// Gone when it goes out of scope.
class FakeNodes {
 public:
  explicit FakeNodes(const std::string& online)
      : root_(std::filesystem::temp_directory_path() /
              ("baton_nodes_" + std::to_string(getpid()) + "_" +
               testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(root_);
    Write("online", online + "\n");
  }
  ~FakeNodes() { std::filesystem::remove_all(root_); }
  FakeNodes(const FakeNodes&) = delete;
  FakeNodes& operator=(const FakeNodes&) = delete;

  void Add(int32_t id, const std::string& cpus, int64_t kib) const {
    const std::string node = "node" + std::to_string(id);
    std::filesystem::create_directories(root_ / node);
    Write(node + "/cpulist", cpus + "\n");
    const std::string prefix = "Node " + std::to_string(id);
    Write(node + "/meminfo", prefix + " MemTotal:       " + std::to_string(kib) + " kB\n" + prefix +
                                 " MemFree:        12 kB\n");
  }
  void Write(const std::string& file, const std::string& text) const {
    std::ofstream(root_ / file) << text;
  }
  std::string root() const { return root_.string(); }

 private:
  const std::filesystem::path root_;
};

}  // namespace baton
