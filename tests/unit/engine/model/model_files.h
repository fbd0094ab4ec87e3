// Writes model directories for tests: safetensors from a list of tensors.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/kernels/bf16.h"

namespace baton {

// A fresh directory that goes away with this object.
class TempDirectory {
 public:
  TempDirectory() {
    static int counter = 0;
    path_ = std::filesystem::temp_directory_path() /
            absl::StrCat("baton_model_test_", getpid(), "_", counter++);
    std::filesystem::create_directories(path_);
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  std::string path() const { return path_.string(); }
  void Write(const std::string& name, std::string_view bytes) const {
    // Truncating an existing file instead makes some file systems wait for the disk.
    std::filesystem::remove(path_ / name);
    std::ofstream(path_ / name, std::ios::binary) << bytes;
  }

 private:
  std::filesystem::path path_;
};

// A safetensors file with this header and `data_bytes` zero bytes of data.
inline std::string SafetensorsBytes(std::string_view header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  bytes.append(header);
  bytes.append(data_bytes, '\0');
  return bytes;
}

struct TestTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype = "BF16";
};

// All tensors of ones, one after the other.
inline std::string SafetensorsOf(const std::vector<TestTensor>& tensors) {
  std::vector<std::string> entries;
  std::string data;
  for (const TestTensor& tensor : tensors) {
    const size_t begin = data.size();
    int64_t count = 1;
    for (const int64_t size : tensor.shape) count *= size;
    for (int64_t i = 0; i < count; ++i) {
      if (tensor.dtype == "F32") {
        data.append("\x00\x00\x80\x3f", 4);
      } else if (tensor.dtype == "F16") {
        data.append("\x00\x3c", 2);
      } else {
        data.append("\x80\x3f", 2);
      }
    }
    entries.push_back(absl::StrCat("\"", tensor.name, "\":{\"dtype\":\"", tensor.dtype,
                                   "\",\"shape\":[", absl::StrJoin(tensor.shape, ","),
                                   "],\"data_offsets\":[", begin, ",", data.size(), "]}"));
  }
  std::string bytes = SafetensorsBytes(absl::StrCat("{", absl::StrJoin(entries, ","), "}"), 0);
  return bytes + data;
}

// The smallest Llama: every tensor of it, and its config.json.
inline constexpr char kSmallestConfig[] =
    R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 6,
        "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
        "vocab_size": 5, "max_position_embeddings": 32})";

inline std::vector<TestTensor> SmallestTensors() {
  return {{"model.embed_tokens.weight", {5, 8}},
          {"model.layers.0.input_layernorm.weight", {8}},
          {"model.layers.0.self_attn.q_proj.weight", {8, 8}},
          {"model.layers.0.self_attn.k_proj.weight", {8, 8}},
          {"model.layers.0.self_attn.v_proj.weight", {8, 8}},
          {"model.layers.0.self_attn.o_proj.weight", {8, 8}},
          {"model.layers.0.post_attention_layernorm.weight", {8}},
          {"model.layers.0.mlp.gate_proj.weight", {6, 8}},
          {"model.layers.0.mlp.up_proj.weight", {6, 8}},
          {"model.layers.0.mlp.down_proj.weight", {8, 6}},
          {"model.norm.weight", {8}},
          {"lm_head.weight", {5, 8}}};
}

}  // namespace baton
