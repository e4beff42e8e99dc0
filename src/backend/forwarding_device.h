// What devices that stand before another have in common.
#pragma once

#include <memory>
#include <utility>

#include "backend/backend.h"

namespace halftone::backend {

// Does all that `device` does; what is to be different is overridden.
class ForwardingDevice : public Device {
 public:
  explicit ForwardingDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}

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
    return device_->allocate(bytes);
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
  [[nodiscard]] uint64_t peak_bytes() const override { return device_->peak_bytes(); }
  [[nodiscard]] std::unique_ptr<PowerMeter> open_power_meter(std::string& missing) override {
    return device_->open_power_meter(missing);
  }

 private:
  std::unique_ptr<Device> device_;
};

}  // namespace halftone::backend
