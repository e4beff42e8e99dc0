#include "backend/cuda/measure.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include <cuda_runtime.h>

#include "backend/cuda/context.h"
#include "backend/cuda/error.h"
#include "backend/cuda/stream.h"

namespace halftone::backend::cuda {
namespace {

// Calls in a graph, as a plan runs them: the host's part of a launch does not count.
class Repeated {
 public:
  Repeated(const std::function<void(int call)>& enqueue, int calls) {
    const cudaStream_t stream = context().stream;
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "beginning a graph");
    for (int call = 0; call < calls; ++call) enqueue(call);
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream, &graph), "recording a graph");
    const cudaError_t code = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    check(code, "instantiating a graph");
    check(cudaEventCreate(&begin_), "creating an event");
    check(cudaEventCreate(&end_), "creating an event");
  }
  ~Repeated() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaGraphExecDestroy(executable_);
  }
  Repeated(const Repeated&) = delete;
  Repeated& operator=(const Repeated&) = delete;

  [[nodiscard]] double run_ms() const {
    const cudaStream_t stream = context().stream;
    check(cudaEventRecord(begin_, stream), "recording an event");
    check(cudaGraphLaunch(executable_, stream), "launching a graph");
    check(cudaEventRecord(end_, stream), "recording an event");
    check(cudaEventSynchronize(end_), "measuring");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin_, end_), "reading events");
    return static_cast<double>(ms);
  }

 private:
  cudaGraphExec_t executable_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

constexpr int kCalls = 8;

double measure_ms(const std::function<void(int call)>& enqueue, int calls) {
  constexpr int kSeries = 3;
  enqueue(0);  // loads the kernel, which a graph must not
  const Repeated repeated(enqueue, calls);
  double best = repeated.run_ms();
  for (int series = 0; series < kSeries; ++series) best = std::min(best, repeated.run_ms());
  return best / calls;
}

struct DeviceFree {
  void operator()(void* memory) const { cudaFree(memory); }
};

// Operands whose weight is one of several copies, together larger than the second level cache: when
// each has had its turn, the first is there no more. Very small weights remain.
class WeightCopies {
 public:
  WeightCopies(const graph::OpDesc& desc, const Operands& operands)
      : operands_(operands), views_(operands.inputs.begin(), operands.inputs.end()) {
    constexpr size_t kMost = 64;
    const size_t weight = static_cast<size_t>(find_view(desc, operands, graph::Role::kWeight) -
                                              operands.inputs.data());
    weight_ = &views_[weight];
    operands_.inputs = views_;
    const size_t bytes = (weight_->type.num_bytes() + 255) / 256 * 256;
    int cache = 0;
    check(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, context().ordinal),
          "asking for the cache's size");
    const size_t wanted = static_cast<size_t>(cache) / 2 * 3 / std::max(bytes, size_t{1}) + 1;
    places_.assign(std::min(wanted, kMost), weight_->data);
    void* memory = nullptr;
    if (cudaMalloc(&memory, bytes * places_.size()) != cudaSuccess) {
      cudaGetLastError();  // no room: the weight itself it is
      return;
    }
    memory_.reset(memory);
    for (size_t i = 0; i < places_.size(); ++i) {
      places_[i] = static_cast<std::byte*>(memory) + i * bytes;
      check(cudaMemcpyAsync(places_[i], weight_->data, weight_->type.num_bytes(),
                            cudaMemcpyDeviceToDevice, context().stream),
            "copying a weight");
    }
  }

  [[nodiscard]] double measure_ms_of(
      const std::function<std::unique_ptr<Launch>(const Operands&)>& prepare) {
    std::vector<std::unique_ptr<Launch>> launches;
    for (void* place : places_) {
      weight_->data = place;
      launches.push_back(prepare(operands_));
    }
    CudaStream stream(context().stream);
    const auto enqueue = [&](int call) {
      launches[static_cast<size_t>(call) % launches.size()]->enqueue(stream);
    };
    return measure_ms(enqueue, std::max(static_cast<int>(launches.size()), kCalls));
  }

 private:
  Operands operands_;
  std::vector<TensorView> views_;
  TensorView* weight_ = nullptr;
  std::unique_ptr<void, DeviceFree> memory_;
  std::vector<void*> places_;
};

// Operands whose q, k and v are zeros, all the same ones.
class ZeroInputs {
 public:
  ZeroInputs(const graph::OpDesc& desc, const Operands& operands)
      : operands_(operands), views_(operands.inputs.begin(), operands.inputs.end()) {
    constexpr std::array kRoles = {graph::Role::kQ, graph::Role::kK, graph::Role::kV};
    size_t bytes = 0;
    for (const graph::Role role : kRoles) {
      const TensorView& view = *find_view(desc, operands, role);
      const auto rows = static_cast<size_t>(view.type.shape.num_rows());
      bytes =
          std::max(bytes, rows * static_cast<size_t>(view.row_pitch) * size_of(view.type.dtype));
    }
    void* memory = nullptr;
    if (cudaMalloc(&memory, bytes) != cudaSuccess) {
      cudaGetLastError();  // no room: the inputs as they are
      return;
    }
    memory_.reset(memory);
    check(cudaMemsetAsync(memory, 0, bytes, context().stream), "clearing memory");
    for (const graph::Role role : kRoles) {
      views_[static_cast<size_t>(find_view(desc, operands, role) - operands.inputs.data())].data =
          memory;
    }
    operands_.inputs = views_;
  }

  [[nodiscard]] const Operands& operands() const { return operands_; }

 private:
  Operands operands_;
  std::vector<TensorView> views_;
  std::unique_ptr<void, DeviceFree> memory_;
};

}  // namespace

double measure_ms(const std::function<void()>& enqueue) {
  return measure_ms([&](int) { enqueue(); }, kCalls);
}

std::unique_ptr<Launch> faster(const std::string& key,
                               const std::function<std::unique_ptr<Launch>()>& own,
                               const std::function<std::unique_ptr<Launch>()>& library,
                               double head_start_ms) {
  const std::optional<std::string> known = context().tuning.find(key);
  if (known == "own") return own();
  if (known == "library") return library();
  auto of_library = library();
  auto of_own = own();
  CudaStream stream(context().stream);
  const double own_ms = measure_ms([&] { of_own->enqueue(stream); });
  const double library_ms = measure_ms([&] { of_library->enqueue(stream); });
  const bool own_wins = own_ms <= library_ms + head_start_ms;
  context().tuning.insert(key, own_wins ? "own" : "library");
  return own_wins ? std::move(of_own) : std::move(of_library);
}

std::unique_ptr<Launch> faster_on_operands(const std::string& key, const graph::OpDesc& /*desc*/,
                                           const Operands& operands, const LaunchMaker& own,
                                           const LaunchMaker& library) {
  return faster(
      key, [&] { return own(operands); }, [&] { return library(operands); });
}

std::unique_ptr<Launch> faster_on_zeros(const std::string& key, const graph::OpDesc& desc,
                                        const Operands& operands, const LaunchMaker& own,
                                        const LaunchMaker& library) {
  const auto of = [&](const Operands& with) {
    return faster(
        key, [&] { return own(with); }, [&] { return library(with); }, kOverlapMs);
  };
  if (!context().tuning.find(key)) {
    const ZeroInputs zeros(desc, operands);
    const std::unique_ptr<Launch> measured = of(zeros.operands());
  }
  return of(operands);  // its winner is known now
}

std::unique_ptr<Launch> faster_from_memory(
    const std::string& key, const graph::OpDesc& desc, const Operands& operands,
    const std::function<std::unique_ptr<Launch>(const Operands&)>& own,
    const std::function<std::unique_ptr<Launch>(const Operands&)>& library, double head_start_ms) {
  std::optional<std::string> winner = context().tuning.find(key);
  if (winner != "own" && winner != "library") {
    WeightCopies copies(desc, operands);
    const double library_ms = copies.measure_ms_of(library);
    const double own_ms = copies.measure_ms_of(own);
    winner = own_ms <= library_ms + head_start_ms ? "own" : "library";
    context().tuning.insert(key, *winner);
  }
  return winner == "own" ? own(operands) : library(operands);
}

}  // namespace halftone::backend::cuda
