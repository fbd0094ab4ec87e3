// A model directory that a fuzzer fills anew for each input; gone when the process exits.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "common/check.h"

namespace baton {

class TempModel {
 public:
  TempModel()
      : path_(std::filesystem::temp_directory_path() / ("baton_fuzz_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~TempModel() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempModel(const TempModel&) = delete;
  TempModel& operator=(const TempModel&) = delete;

  std::string path() const { return path_.string(); }
  void Write(const char* name, std::string_view bytes) const {
    std::ofstream out(path_ / name, std::ios::binary);
    out << bytes;
    BATON_CHECK(out.good()) << path_ / name;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace baton
