#include "base/rng.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "halftone/error.h"

namespace halftone {
namespace {

using Json = nlohmann::json;

std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(HALFTONE_SOURCE_DIR) / "tests/golden/rng" / name;
}

Json read_json(const std::string& name) {
  std::ifstream file(golden(name));
  return Json::parse(file);
}

std::vector<float> draw(NoiseGenerator& generator, size_t n) {
  std::vector<float> values(n);
  generator.randn(values);
  return values;
}

void expect_same_bits(const std::vector<float>& got, const std::vector<float>& want,
                      const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i]))
        << what << " element " << i << ": " << got[i] << " wanted " << want[i];
  }
}

TEST(TorchCpuNoise, EqualsTorchBitForBit) {
  int num_checked = 0;
  const Json file = read_json("torch_cpu.json");
  for (const Json& row : file.at("rows")) {
    const auto kind = row.at("kind").get<std::string>();
    auto generator = NoiseGenerator::torch_cpu(row.at("seed").get<uint64_t>());
    if (kind == "randn") {
      const auto want = row.at("values").get<std::vector<float>>();
      expect_same_bits(draw(generator, want.size()), want, row.dump().substr(0, 60));
      ++num_checked;
    } else if (kind == "randn_sequence") {
      for (const Json& call : row.at("values")) {
        const auto want = call.get<std::vector<float>>();
        expect_same_bits(draw(generator, want.size()), want, row.dump().substr(0, 60));
      }
      ++num_checked;
    }
  }
  EXPECT_GE(num_checked, 70);
}

// Latent-sized draws: the safetensors file holds tensors named randn.seed<S>.n<N>.
TEST(TorchCpuNoise, LargeDrawsEqualTorchBitForBit) {
  std::ifstream file(golden("torch_cpu.safetensors"), std::ios::binary);
  uint64_t header_bytes = 0;
  file.read(reinterpret_cast<char*>(&header_bytes), 8);
  std::string header(header_bytes, ' ');
  file.read(header.data(), static_cast<std::streamsize>(header_bytes));
  int num_checked = 0;
  const Json entries = Json::parse(header);
  for (const auto& [name, entry] : entries.items()) {
    const auto seed_end = name.find(".n");
    if (seed_end == std::string::npos) continue;
    const std::string prefix = "randn.seed";
    const uint64_t seed = std::stoull(name.substr(prefix.size(), seed_end - prefix.size()));
    std::vector<float> want(std::stoull(name.substr(seed_end + 2)));
    const auto begin = entry.at("data_offsets").at(0).get<int64_t>();
    file.seekg(8 + static_cast<int64_t>(header_bytes) + begin);
    file.read(reinterpret_cast<char*>(want.data()), static_cast<std::streamsize>(want.size() * 4));
    auto generator = NoiseGenerator::torch_cpu(seed);
    expect_same_bits(draw(generator, want.size()), want, name);
    ++num_checked;
  }
  EXPECT_EQ(num_checked, 10);
}

TEST(TorchCpuNoise, OnlyTheLow32SeedBitsCount) {
  auto a = NoiseGenerator::torch_cpu(5);
  auto b = NoiseGenerator::torch_cpu((uint64_t{1} << 40) + 5);
  expect_same_bits(draw(a, 64), draw(b, 64), "seed 5");
}

// Little-endian float32 in base64.
std::vector<float> decode_floats(const std::string& text) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int num_bits = 0;
  for (char c : text.substr(0, text.find('='))) {
    bits = (bits << 6) | static_cast<uint32_t>(kAlphabet.find(c));
    num_bits += 6;
    if (num_bits < 8) continue;
    num_bits -= 8;
    bytes.push_back(static_cast<char>((bits >> num_bits) & 0xffU));
  }
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), values.size() * 4);
  return values;
}

void expect_device_values(std::span<const float> got, const std::vector<float>& want,
                          const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); ++i) ASSERT_EQ(got[i], want[i]) << what << " element " << i;
}

TEST(TorchCudaNoise, EqualsTheDevice) {
  const Json file = read_json("cuda_philox.json");
  const CudaGeometry geometry{file.at("multiprocessors").get<uint32_t>(),
                              file.at("max_threads_per_multiprocessor").get<uint32_t>()};
  for (const Json& row : file.at("cases")) {
    const auto seed = row.at("seed").get<uint64_t>();
    const auto count = row.at("count").get<size_t>();
    const std::string what = "seed " + std::to_string(seed) + " n " + std::to_string(count);
    auto generator = NoiseGenerator::torch_cuda(seed, geometry);
    const std::vector<float> got = draw(generator, count);
    const std::vector<float> first = decode_floats(row.at("first").get<std::string>());
    const std::vector<float> last = decode_floats(row.at("last").get<std::string>());
    expect_device_values(std::span(got).first(first.size()), first, what + " first");
    expect_device_values(std::span(got).last(last.size()), last, what + " last");
    expect_device_values(draw(generator, 5), row.at("next_5").get<std::vector<float>>(),
                         what + " next call");
  }
  EXPECT_EQ(file.at("cases").size(), 25U);
}

double mean_square(const std::vector<float>& values) {
  double sum = 0;
  for (float v : values) sum += static_cast<double>(v) * static_cast<double>(v);
  return sum / static_cast<double>(values.size());
}

// Past one launch's threads the numbers wrap to the second, third and fourth word of each thread; a
// second call must not repeat the first.
TEST(TorchCudaNoise, FollowsTheThreadMapping) {
  const CudaGeometry tiny{.multiprocessors = 1, .threads_per_multiprocessor = 512};
  auto small = NoiseGenerator::torch_cuda(7, tiny);
  auto large = NoiseGenerator::torch_cuda(7, tiny);
  const auto few = draw(small, 512);
  const auto many = draw(large, 512 * 4 * 2 + 3);  // three trips
  for (size_t i = 0; i < few.size(); ++i) EXPECT_EQ(few[i], many[i]);
  EXPECT_NEAR(mean_square(many), 1.0, 0.1);
  // `small` has used one trip: its next call equals the second trip of the large call.
  const auto next = draw(small, 512);
  for (size_t i = 0; i < next.size(); ++i) EXPECT_EQ(next[i], many[2048 + i]);
}

TEST(TorchCudaNoise, GeometryDoesNotMatterForTensorsThatFitTheDevice) {
  auto a = NoiseGenerator::torch_cuda(3, {.multiprocessors = 108});
  auto b = NoiseGenerator::torch_cuda(3, {.multiprocessors = 132});
  expect_same_bits(draw(a, 65536), draw(b, 65536), "65536 elements");
}

TEST(TorchCudaNoise, RefusesADeviceWithoutThreads) {
  EXPECT_THROW(NoiseGenerator::torch_cuda(0, {.multiprocessors = 0}), Error);
}

}  // namespace
}  // namespace halftone
