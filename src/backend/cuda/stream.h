// The CUDA stream behind backend::Stream.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "backend/backend.h"

namespace halftone::backend::cuda {

// A view of the device's stream, in whose order copies and allocations lie; or a stream of its own.
class CudaStream final : public Stream {
 public:
  explicit CudaStream(cudaStream_t handle) : handle_(handle) {}
  CudaStream();
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  [[nodiscard]] cudaStream_t handle() const { return handle_; }
  void synchronize() override;
  [[nodiscard]] bool begin_recording() override;
  [[nodiscard]] std::unique_ptr<Recording> end_recording() override;
  void mark(size_t index) override;
  [[nodiscard]] double ms_between(size_t first, size_t last) const override;
  void wait_for_mark(size_t index) override;
  void begin_range(const char* name) override;
  void end_range() override;
  void wait_for(Stream& other) override;

 private:
  cudaStream_t handle_ = nullptr;
  bool owns_ = false;
  cudaEvent_t joined_ = nullptr;  // made on first use
  std::vector<cudaEvent_t> marks_;
};

[[nodiscard]] inline cudaStream_t handle_of(Stream& stream) {
  return static_cast<CudaStream&>(stream).handle();
}

// A launch that calls `run(cudaStream_t)`; whatever run captured lives as long as the launch.
template <class F>
std::unique_ptr<Launch> make_launch(F run) {
  class FunctionLaunch final : public Launch {
   public:
    explicit FunctionLaunch(F f) : run_(std::move(f)) {}
    void enqueue(Stream& stream) const override { run_(handle_of(stream)); }

   private:
    F run_;
  };
  return std::make_unique<FunctionLaunch>(std::move(run));
}

}  // namespace halftone::backend::cuda
