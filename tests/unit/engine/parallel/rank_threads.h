// The ranks of a group as threads of a test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/check.h"
#include "engine/parallel/gloo_communicator.h"

namespace baton {

// A directory of its own, removed at the end.
class RendezvousDirectory {
 public:
  RendezvousDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "baton-test-ranks-XXXXXX";
    BATON_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~RendezvousDirectory() { std::filesystem::remove_all(path_); }
  RendezvousDirectory(const RendezvousDirectory&) = delete;
  RendezvousDirectory& operator=(const RendezvousDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// How a rank joins the group that meets in `directory`.
inline auto JoinIn(const RendezvousDirectory& directory, int32_t rank, int32_t size) {
  return [path = directory.path(), rank, size] {
    return ConnectGloo({.rank = rank, .size = size, .rendezvous = path});
  };
}

// Runs `body` once for each rank at the same time, and waits for all.
inline void RunRanks(int32_t size, const std::function<void(int32_t rank)>& body) {
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < size; ++rank) threads.emplace_back([&body, rank] { body(rank); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace baton
