#include "backend/cpu/cpu_device.h"

#include <algorithm>
#include <cstring>
#include <new>

#include <fmt/format.h>
#include <omp.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "halftone/error.h"

#include "backend/cpu/cpu_features.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn/onednn.h"
#include "backend/cpu/tuning.h"

namespace halftone::backend::cpu {
namespace {

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return std::max(omp_get_num_procs(), 1);
  return std::max(CPU_COUNT(&set), 1);
}

size_t pages(int name) {
  const long count = sysconf(name);
  const long size = sysconf(_SC_PAGESIZE);
  return count < 0 || size < 0 ? 0 : static_cast<size_t>(count) * static_cast<size_t>(size);
}

DeviceInfo make_info(const CpuOptions& options) {
  DeviceInfo info;
  info.name = "cpu";
  info.arch = "x86-64";
  info.num_units = options.threads > 0 ? options.threads : available_cores();
  info.memory_bytes = pages(_SC_PHYS_PAGES);
  info.host_visible_memory = true;
  info.features = detect_features(options.disabled_features);
  for (const std::string& feature : info.features) info.arch += "+" + feature;
  return info;
}

// Launches run when they are enqueued.
class CpuStream final : public Stream {
 public:
  void synchronize() override {}
};

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(size_t bytes) : size_(bytes) {
    // More than the machine has is refused at once, as the system would grant it and fail later.
    if (bytes <= pages(_SC_PHYS_PAGES)) {
      data_ = ::operator new(std::max<size_t>(bytes, 1), alignment(), std::nothrow);
    }
    // Whole huge pages only, so that no more memory is used; where there are none, it is as before.
    if (data_ != nullptr && is_large()) {
      madvise(data_, size_ / kHugePage * kHugePage, MADV_HUGEPAGE);
    }
    if (data_ == nullptr) {
      throw Error(Errc::kOutOfMemory,
                  fmt::format("cpu: needed {} bytes, {} are free", bytes, pages(_SC_AVPHYS_PAGES)));
    }
  }
  ~CpuBuffer() override { ::operator delete(data_, alignment()); }
  CpuBuffer(const CpuBuffer&) = delete;
  CpuBuffer& operator=(const CpuBuffer&) = delete;
  [[nodiscard]] void* data() const override { return data_; }
  [[nodiscard]] size_t size() const override { return size_; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;

  // Large buffers are read in strides that would miss the translations of small pages.
  [[nodiscard]] bool is_large() const { return size_ >= 2 * kHugePage; }
  [[nodiscard]] std::align_val_t alignment() const {
    return std::align_val_t{is_large() ? kHugePage : 64};
  }

  size_t size_;
  void* data_ = nullptr;
};

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const CpuOptions& options) : info_(make_info(options)) {
    omp_set_num_threads(info_.num_units);
    onednn::limit_instruction_set(info_);
  }
  ~CpuDevice() override { save_tuning(); }
  CpuDevice(const CpuDevice&) = delete;
  CpuDevice& operator=(const CpuDevice&) = delete;
  [[nodiscard]] const DeviceInfo& info() const override { return info_; }
  [[nodiscard]] std::span<const Kernel* const> kernels() const override { return all_kernels(); }
  [[nodiscard]] std::unique_ptr<Stream> create_stream() override {
    return std::make_unique<CpuStream>();
  }
  [[nodiscard]] std::unique_ptr<Buffer> allocate(size_t bytes) override {
    return std::make_unique<CpuBuffer>(bytes);
  }
  void upload(void* device, const void* host, size_t bytes) override {
    std::memcpy(device, host, bytes);
  }
  void download(void* host, const void* device, size_t bytes) override {
    std::memcpy(host, device, bytes);
  }
  void copy(void* dst, const void* src, size_t bytes, Stream& /*stream*/) override {
    std::memcpy(dst, src, bytes);
  }

 private:
  DeviceInfo info_;
};

}  // namespace

std::unique_ptr<Device> create_cpu_device(const CpuOptions& options,
                                          const std::string& tuning_file) {
  if (!tuning_file.empty()) open_tuning(tuning_file);
  return std::make_unique<CpuDevice>(options);
}

std::string library_versions() { return onednn::version(); }

}  // namespace halftone::backend::cpu
