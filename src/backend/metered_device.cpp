#include "backend/metered_device.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

namespace halftone::backend {
namespace {

class MeteredBuffer final : public Buffer {
 public:
  MeteredBuffer(std::unique_ptr<Buffer> buffer, std::shared_ptr<uint64_t> used)
      : buffer_(std::move(buffer)), used_(std::move(used)) {
    *used_ += buffer_->size();
  }
  ~MeteredBuffer() override { *used_ -= buffer_->size(); }
  MeteredBuffer(const MeteredBuffer&) = delete;
  MeteredBuffer& operator=(const MeteredBuffer&) = delete;
  [[nodiscard]] void* data() const override { return buffer_->data(); }
  [[nodiscard]] size_t size() const override { return buffer_->size(); }

 private:
  std::unique_ptr<Buffer> buffer_;
  std::shared_ptr<uint64_t> used_;
};

class MeteredDevice final : public Device {
 public:
  MeteredDevice(std::unique_ptr<Device> device, uint64_t limit)
      : device_(std::move(device)), limit_(limit) {}

  [[nodiscard]] const DeviceInfo& info() const override { return device_->info(); }
  [[nodiscard]] std::span<const Kernel* const> kernels() const override {
    return device_->kernels();
  }
  [[nodiscard]] std::unique_ptr<Stream> create_stream() override {
    return device_->create_stream();
  }
  [[nodiscard]] std::unique_ptr<Stream> create_side_stream() override {
    return device_->create_side_stream();
  }
  [[nodiscard]] std::unique_ptr<Buffer> allocate(size_t bytes) override {
    if (limit_ > 0 && (bytes > limit_ || *used_ > limit_ - bytes)) {
      throw Error(Errc::kOutOfMemory,
                  fmt::format("{}: needed {} bytes, {} are free of the limit of {} bytes; use "
                              "--low-vram, a smaller size or batch, or a higher --memory-limit",
                              info().name, bytes, limit_ - std::min(limit_, *used_), limit_));
    }
    auto buffer = std::make_unique<MeteredBuffer>(device_->allocate(bytes), used_);
    peak_ = std::max(peak_, *used_);
    return buffer;
  }
  void upload(void* device, const void* host, size_t bytes) override {
    device_->upload(device, host, bytes);
  }
  void download(void* host, const void* device, size_t bytes) override {
    device_->download(host, device, bytes);
  }
  void copy(void* dst, const void* src, size_t bytes, Stream& stream) override {
    device_->copy(dst, src, bytes, stream);
  }
  void copy_rows(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t bytes,
                 size_t count, Stream& stream) override {
    device_->copy_rows(dst, dst_pitch, src, src_pitch, bytes, count, stream);
  }
  void download_behind(Stream& stream, void* host, const void* device, size_t bytes) override {
    device_->download_behind(stream, host, device, bytes);
  }
  [[nodiscard]] uint64_t peak_bytes() const override { return peak_; }
  [[nodiscard]] std::unique_ptr<PowerMeter> open_power_meter(std::string& missing) override {
    return device_->open_power_meter(missing);
  }

 private:
  std::unique_ptr<Device> device_;
  uint64_t limit_;
  std::shared_ptr<uint64_t> used_ = std::make_shared<uint64_t>(0);
  uint64_t peak_ = 0;
};

}  // namespace

std::unique_ptr<Device> meter(std::unique_ptr<Device> device, uint64_t limit) {
  return std::make_unique<MeteredDevice>(std::move(device), limit);
}

}  // namespace halftone::backend
