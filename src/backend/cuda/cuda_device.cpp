#include "backend/cuda/cuda_device.h"

#include <algorithm>
#include <cstring>

#include <cuda_runtime.h>
#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/architectures.h"
#include "backend/cuda/context.h"
#include "backend/cuda/error.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/launch.h"
#include "backend/cuda/libraries/libraries.h"
#include "backend/cuda/libraries/nvml.h"
#include "backend/cuda/stream.h"

namespace halftone::backend::cuda {
namespace {

constexpr size_t kStagingBytes = size_t{16} << 20;
constexpr size_t kAlignment = 256;  // what cudaMalloc promises and kernels rely on

// Empty when devices can be used, else why not and what to do.
std::string unusable_reason(int& count) {
  count = 0;
  int driver = 0;
  int runtime = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    return "no NVIDIA driver was found (libcuda.so.1); install one, or use --device cpu";
  }
  cudaRuntimeGetVersion(&runtime);
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorInsufficientDriver) {
    return fmt::format(
        "the driver supports CUDA {}.{}, this build needs {}.{}; install a newer driver",
        driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
  }
  if (code != cudaSuccess || count == 0) {
    return fmt::format("the driver shows no device ({}); see nvidia-smi", cudaGetErrorString(code));
  }
  return {};
}

DeviceInfo make_info(int ordinal) {
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, ordinal), "asking for the device's properties");
  DeviceInfo info;
  info.name = fmt::format("cuda:{}", ordinal);
  info.arch = fmt::format("sm_{}{}", p.major, p.minor);
  info.num_units = p.multiProcessorCount;
  info.memory_bytes = p.totalGlobalMem;
  info.features = {"cuda"};
  if (p.major == 9 && p.minor == 0) info.features.emplace_back("sm_90a");
  for (const std::string& library : available_libraries()) info.features.push_back(library);
  return info;
}

class CudaBuffer final : public Buffer {
 public:
  CudaBuffer(void* data, size_t size, std::shared_ptr<uint64_t> used)
      : data_(data), size_(size), used_(std::move(used)) {}
  ~CudaBuffer() override {
    if (data_ != nullptr) cudaFreeAsync(data_, context().stream);
    *used_ -= size_;
  }
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;
  [[nodiscard]] void* data() const override { return data_; }
  [[nodiscard]] size_t size() const override { return size_; }

 private:
  void* data_;
  size_t size_;
  std::shared_ptr<uint64_t> used_;
};

// Pinned memory through which pageable host memory goes, in pieces that take turns: so many that
// the few small uploads before a step do not wait for each other behind the work they are for.
class Staging {
 public:
  explicit Staging(cudaStream_t stream) : stream_(stream) {
    check(cudaMallocHost(&data_, kStagingBytes), "allocating pinned memory");
    for (cudaEvent_t& event : done_) check(cudaEventCreate(&event), "creating an event");
  }
  ~Staging() {
    cudaFreeHost(data_);
    for (cudaEvent_t event : done_) cudaEventDestroy(event);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  void upload(void* device, const void* host, size_t bytes) {
    for (size_t at = 0; at < bytes; at += kPiece) {
      const size_t n = std::min(kPiece, bytes - at);
      std::byte* piece = next_piece();
      std::memcpy(piece, static_cast<const std::byte*>(host) + at, n);
      check(cudaMemcpyAsync(static_cast<std::byte*>(device) + at, piece, n, cudaMemcpyHostToDevice,
                            stream_),
            "uploading");
      check(cudaEventRecord(done_[turn_], stream_), "recording an event");
    }
  }

  // In the order of `stream`. Piece i comes from the device while piece i-1 goes to the
  // caller.
  void download(void* host, const void* device, size_t bytes, cudaStream_t stream) {
    const auto finish = [&](size_t at, const std::byte* piece, cudaEvent_t done) {
      check(cudaEventSynchronize(done), "downloading");
      std::memcpy(static_cast<std::byte*>(host) + at, piece, std::min(kPiece, bytes - at));
    };
    const std::byte* before = nullptr;
    cudaEvent_t before_done = nullptr;
    for (size_t at = 0; at < bytes; at += kPiece) {
      std::byte* piece = next_piece();
      check(cudaMemcpyAsync(piece, static_cast<const std::byte*>(device) + at,
                            std::min(kPiece, bytes - at), cudaMemcpyDeviceToHost, stream),
            "downloading");
      check(cudaEventRecord(done_[turn_], stream), "recording an event");
      if (before != nullptr) finish(at - kPiece, before, before_done);
      before = piece;
      before_done = done_[turn_];
    }
    if (before != nullptr) finish((bytes - 1) / kPiece * kPiece, before, before_done);
  }

 private:
  static constexpr size_t kPieces = 8;
  static constexpr size_t kPiece = kStagingBytes / kPieces;
  // The one that was used longest ago, free for use.
  std::byte* next_piece() {
    turn_ = (turn_ + 1) % kPieces;
    check(cudaEventSynchronize(done_[turn_]), "copying");
    return static_cast<std::byte*>(data_) + turn_ * kPiece;
  }

  cudaStream_t stream_;
  void* data_ = nullptr;
  cudaEvent_t done_[kPieces] = {};
  size_t turn_ = 0;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(DeviceInfo info, cudaStream_t stream)
      : info_(std::move(info)), stream_(stream), staging_(stream) {}
  ~CudaDevice() override {
    cudaStreamSynchronize(stream_);
    context().tuning.save();
  }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  [[nodiscard]] const DeviceInfo& info() const override { return info_; }
  [[nodiscard]] std::span<const Kernel* const> kernels() const override { return all_kernels(); }
  [[nodiscard]] std::unique_ptr<Stream> create_stream() override {
    return std::make_unique<CudaStream>(stream_);
  }
  [[nodiscard]] std::unique_ptr<Stream> create_side_stream() override {
    return std::make_unique<CudaStream>();
  }

  [[nodiscard]] std::unique_ptr<Buffer> allocate(size_t bytes) override {
    const size_t size = std::max((bytes + kAlignment - 1) / kAlignment, size_t{1}) * kAlignment;
    void* data = nullptr;
    cudaError_t code = cudaMallocAsync(&data, size, stream_);
    if (code == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      size_t free = 0;
      size_t total = 0;
      cudaMemGetInfo(&free, &total);
      throw Error(Errc::kOutOfMemory,
                  fmt::format("{}: needs {:.0f} MiB more, {:.0f} of {:.0f} MiB are free; use a "
                              "smaller size or batch",
                              info_.name, static_cast<double>(size) / 1048576.0,
                              static_cast<double>(free) / 1048576.0,
                              static_cast<double>(total) / 1048576.0));
    }
    check(code, "allocating device memory");
    *used_ += size;
    peak_ = std::max(peak_, *used_);
    return std::make_unique<CudaBuffer>(data, size, used_);
  }

  void upload(void* device, const void* host, size_t bytes) override {
    staging_.upload(device, host, bytes);
  }
  void download(void* host, const void* device, size_t bytes) override {
    staging_.download(host, device, bytes, stream_);
  }
  void download_behind(Stream& stream, void* host, const void* device, size_t bytes) override {
    staging_.download(host, device, bytes, handle_of(stream));
  }
  void copy(void* dst, const void* src, size_t bytes, Stream& stream) override {
    check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, handle_of(stream)),
          "copying on the device");
  }
  void copy_rows(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t bytes,
                 size_t count, Stream& stream) override {
    check(cudaMemcpy2DAsync(dst, dst_pitch, src, src_pitch, bytes, count, cudaMemcpyDeviceToDevice,
                            handle_of(stream)),
          "copying on the device");
  }
  [[nodiscard]] uint64_t peak_bytes() const override { return peak_; }
  // By the bus: NVML knows the boards that CUDA_VISIBLE_DEVICES hides, and counts them in another
  // order.
  [[nodiscard]] std::unique_ptr<PowerMeter> open_power_meter(std::string& missing) override {
    const Nvml nvml = Nvml::load(missing);
    if (!missing.empty()) return nullptr;
    char bus_id[32] = {};
    if (cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), context().ordinal) != cudaSuccess) {
      cudaGetLastError();
      missing = "the device has no PCI bus id";
      return nullptr;
    }
    return open_nvml_meter(nvml, bus_id, missing);
  }

 private:
  DeviceInfo info_;
  cudaStream_t stream_;
  Staging staging_;
  std::shared_ptr<uint64_t> used_ = std::make_shared<uint64_t>(0);
  uint64_t peak_ = 0;
};

}  // namespace

std::unique_ptr<Device> create_cuda_device(const CudaOptions& options) {
  int count = 0;
  if (const std::string reason = unusable_reason(count); !reason.empty()) {
    throw Error(Errc::kDeviceLost, fmt::format("device cuda:{}: {}", options.ordinal, reason));
  }
  if (options.ordinal < 0 || options.ordinal >= count) {
    throw Error(Errc::kDeviceLost, fmt::format("device cuda:{}: wanted cuda:0 to cuda:{}",
                                               options.ordinal, count - 1));
  }
  DeviceInfo info = make_info(options.ordinal);
  if (const std::string reason = unusable_because(info); !reason.empty()) {
    throw Error(Errc::kDeviceLost, fmt::format("device {}: {}", info.name, reason));
  }
  check(cudaSetDevice(options.ordinal), "choosing the device");
  auto made = std::make_unique<Context>();
  made->ordinal = options.ordinal;
  made->num_sms = info.num_units;
  made->tuning = TuningCache(options.tuning_file);
  // A blocking stream: kernels on the default stream (Kernel::pack) keep their order with it.
  check(cudaStreamCreate(&made->stream), "creating a stream");
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, options.ordinal), "asking for the memory pool");
  uint64_t keep = UINT64_MAX;  // freed memory serves the next allocation
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep),
        "setting up the memory pool");
  set_overlap_launches(options.overlap_launches && plain_kernels_wait());
  const cudaStream_t stream = made->stream;
  set_context(std::move(made));
  return std::make_unique<CudaDevice>(std::move(info), stream);
}

std::vector<DeviceInfo> list_cuda_devices(std::string* reason) {
  int count = 0;
  const std::string why = unusable_reason(count);
  if (reason != nullptr) *reason = why;
  std::vector<DeviceInfo> infos;
  if (!why.empty()) return infos;
  for (int i = 0; i < count; ++i) infos.push_back(make_info(i));
  return infos;
}

uint64_t free_bytes(int ordinal) {
  size_t free = 0;
  size_t total = 0;
  const bool asked =
      cudaSetDevice(ordinal) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess;
  cudaGetLastError();
  return asked ? free : 0;
}

std::string unusable_because(const DeviceInfo& info) {
  // "sm_90", "sm_120": the last digit is the minor version.
  const int number = std::stoi(info.arch.substr(3));
  if (has_code_for(built_architectures(), number / 10, number % 10)) return {};
  return fmt::format(
      "has compute capability {}.{}, this build has code for {}; configure with "
      "-DCMAKE_CUDA_ARCHITECTURES={}, or use --device cpu",
      number / 10, number % 10, built_architectures(), number);
}

std::string model_name(int ordinal) {
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, ordinal), "asking for the device's properties");
  return p.name;
}

}  // namespace halftone::backend::cuda
