#include "backend/cuda/stream.h"

#include <nvtx3/nvToolsExt.h>

#include "backend/cuda/error.h"

namespace halftone::backend::cuda {
namespace {

class GraphRecording final : public Recording {
 public:
  explicit GraphRecording(cudaGraph_t graph) {
    const cudaError_t code = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check(code, "instantiating a graph");
  }
  ~GraphRecording() override { cudaGraphExecDestroy(executable_); }
  GraphRecording(const GraphRecording&) = delete;
  GraphRecording& operator=(const GraphRecording&) = delete;
  void replay(Stream& stream) const override {
    check(cudaGraphLaunch(executable_, handle_of(stream)), "launching a graph");
  }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

CudaStream::CudaStream() : owns_(true) { check(cudaStreamCreate(&handle_), "creating a stream"); }

CudaStream::~CudaStream() {
  for (cudaEvent_t event : marks_) cudaEventDestroy(event);
  if (joined_ != nullptr) cudaEventDestroy(joined_);
  if (owns_) cudaStreamDestroy(handle_);
}

void CudaStream::synchronize() { check(cudaStreamSynchronize(handle_), "waiting for the device"); }

bool CudaStream::begin_recording() {
  check(cudaStreamBeginCapture(handle_, cudaStreamCaptureModeRelaxed), "beginning a graph");
  return true;
}

std::unique_ptr<Recording> CudaStream::end_recording() {
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(handle_, &graph), "recording a graph");
  return std::make_unique<GraphRecording>(graph);
}

void CudaStream::mark(size_t index) {
  while (marks_.size() <= index) {
    cudaEvent_t event = nullptr;
    check(cudaEventCreate(&event), "creating an event");
    marks_.push_back(event);
  }
  check(cudaEventRecord(marks_[index], handle_), "recording an event");
}

double CudaStream::ms_between(size_t first, size_t last) const {
  float ms = 0;
  check(cudaEventElapsedTime(&ms, marks_.at(first), marks_.at(last)), "reading events");
  return static_cast<double>(ms);
}

void CudaStream::wait_for_mark(size_t index) {
  check(cudaEventSynchronize(marks_.at(index)), "waiting for a mark");
}

void CudaStream::wait_for(Stream& other) {
  if (joined_ == nullptr) {
    check(cudaEventCreateWithFlags(&joined_, cudaEventDisableTiming), "creating an event");
  }
  check(cudaEventRecord(joined_, handle_of(other)), "recording an event");
  check(cudaStreamWaitEvent(handle_, joined_, 0), "joining two streams");
}

void CudaStream::begin_range(const char* name) { nvtxRangePushA(name); }
void CudaStream::end_range() { nvtxRangePop(); }

}  // namespace halftone::backend::cuda
