#include "backend/metered_device.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/forwarding_device.h"

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

class MeteredDevice final : public ForwardingDevice {
 public:
  MeteredDevice(std::unique_ptr<Device> device, uint64_t limit)
      : ForwardingDevice(std::move(device)), limit_(limit) {}

  [[nodiscard]] std::unique_ptr<Buffer> allocate(size_t bytes) override {
    if (limit_ > 0 && (bytes > limit_ || *used_ > limit_ - bytes)) {
      throw Error(Errc::kOutOfMemory,
                  fmt::format("{}: needed {} bytes, {} are free of the limit of {} bytes; use "
                              "--low-vram, a smaller size or batch, or a higher --memory-limit",
                              info().name, bytes, limit_ - std::min(limit_, *used_), limit_));
    }
    auto buffer = std::make_unique<MeteredBuffer>(ForwardingDevice::allocate(bytes), used_);
    peak_ = std::max(peak_, *used_);
    return buffer;
  }
  [[nodiscard]] uint64_t peak_bytes() const override { return peak_; }

 private:
  uint64_t limit_;
  std::shared_ptr<uint64_t> used_ = std::make_shared<uint64_t>(0);
  uint64_t peak_ = 0;
};

}  // namespace

std::unique_ptr<Device> meter(std::unique_ptr<Device> device, uint64_t limit) {
  return std::make_unique<MeteredDevice>(std::move(device), limit);
}

}  // namespace halftone::backend
