#include "backend/cuda/libraries/cudnn_graph.h"

#include <array>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/context.h"
#include "backend/cuda/libraries/cudnn.h"
#include "backend/cuda/measure.h"

namespace halftone::backend::cuda {
namespace {

// Values of cudnn_graph.h, version 9.
enum DescriptorType : int {
  kPointwiseDescriptor = 0,
  kConvolutionDescriptor = 1,
  kEngineHeuristics = 4,
  kExecutionPlan = 5,
  kEngineConfig = 3,
  kConvolutionForward = 10,
  kPointwiseOperation = 13,
  kOperationGraph = 15,
  kVariantPack = 16,
  kTensorDescriptor = 17,
  kAttentionOperation = 41,
};
enum AttributeType : int {
  kHandleType = 0,
  kDataTypeType = 1,
  kBooleanType = 2,
  kInt64Type = 3,
  kFloatType = 4,
  kPointerType = 6,
  kConvolutionModeType = 7,
  kHeuristicsModeType = 8,
  kPointwiseModeType = 14,
  kDescriptorType = 15,
};
enum Attribute : int {
  kPointwiseMode = 0,
  kPointwisePrecision = 1,
  kConvolutionPrecision = 100,
  kConvolutionMode = 101,
  kConvolutionDilations = 102,
  kConvolutionStrides = 103,
  kConvolutionPostPaddings = 104,
  kConvolutionPrePaddings = 105,
  kConvolutionSpatialDims = 106,
  kHeuristicsMode = 200,
  kHeuristicsGraph = 201,
  kHeuristicsResults = 202,
  kPlanHandle = 400,
  kPlanEngineConfig = 401,
  kPlanWorkspaceSize = 402,
  kForwardAlpha = 700,
  kForwardBeta = 701,
  kForwardConvolution = 702,
  kForwardW = 703,
  kForwardX = 704,
  kForwardY = 705,
  kPointwiseDescriptorOf = 750,
  kPointwiseX = 751,
  kPointwiseB = 752,
  kPointwiseY = 753,
  kPointwiseAlpha1 = 754,
  kPointwiseAlpha2 = 755,
  kGraphHandle = 800,
  kGraphOperations = 801,
  kTensorAlignment = 900,
  kTensorDataType = 901,
  kTensorDimensions = 902,
  kTensorStrides = 903,
  kTensorUniqueId = 906,
  kTensorIsVirtual = 907,
  kTensorIsByValue = 908,
  kPackIds = 1000,
  kPackPointers = 1001,
  kPackWorkspace = 1003,
  kAttentionQ = 2800,
  kAttentionK = 2801,
  kAttentionV = 2802,
  kAttentionY = 2803,
  kAttentionScale = 2805,
};
constexpr int kFloatData = 0;
constexpr int kCrossCorrelation = 1;
constexpr std::array kHeuristicsModes = {3, 2};  // A, then fallback
constexpr int64_t kAlignment = 16;
constexpr double kWorthwhile = 0.98;

int data_type(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return 2;
    case DType::kBF16:
      return 9;
    default:
      return kFloatData;
  }
}

void need(int status, std::string_view what) {
  if (status == 0) return;
  throw Error(Errc::kUnsupported,
              fmt::format("cuDNN: {}: {}", what, Cudnn::get().get_error_string(status)));
}

// A backend descriptor under construction, or finished.
class Descriptor {
 public:
  explicit Descriptor(int type) {
    need(Cudnn::get().create_descriptor(type, &handle_), "creating a descriptor");
  }
  ~Descriptor() {
    if (handle_ != nullptr) Cudnn::get().destroy_descriptor(handle_);
  }
  Descriptor(Descriptor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  [[nodiscard]] Cudnn::Descriptor handle() const { return handle_; }
  template <class T>
  Descriptor& set(int name, int type, std::span<const T> values) {
    need(Cudnn::get().set_attribute(handle_, name, type, static_cast<int64_t>(values.size()),
                                    static_cast<const void*>(values.data())),
         fmt::format("setting attribute {}", name));
    return *this;
  }
  template <class T>
  Descriptor& set(int name, int type, const T& value) {
    return set(name, type, std::span<const T>(&value, 1));
  }
  Descriptor& set(int name, const Descriptor& other) {
    return set(name, kDescriptorType, other.handle_);
  }
  Descriptor& finalize(std::string_view what) {
    need(Cudnn::get().finalize(handle_), what);
    return *this;
  }

 private:
  Cudnn::Descriptor handle_ = nullptr;
};

}  // namespace

struct CudnnGraph::State {
  std::vector<Descriptor> tensors, operations, kept;
  std::vector<int64_t> ids;
  std::vector<void*> pointers;
  std::vector<std::unique_ptr<float>> scalars;
  std::optional<Descriptor> graph, plan, pack;

  TensorId add(DType dtype, const std::vector<int64_t>& dims, const std::vector<int64_t>& strides,
               bool is_virtual, bool by_value) {
    const auto id = static_cast<int64_t>(tensors.size()) + 1;
    Descriptor tensor(kTensorDescriptor);
    tensor.set(kTensorDataType, kDataTypeType, data_type(dtype))
        .set(kTensorDimensions, kInt64Type, std::span(dims))
        .set(kTensorStrides, kInt64Type, std::span(strides))
        .set(kTensorUniqueId, kInt64Type, id)
        .set(kTensorAlignment, kInt64Type, kAlignment)
        .set(kTensorIsVirtual, kBooleanType, is_virtual)
        .set(kTensorIsByValue, kBooleanType, by_value)
        .finalize("describing a tensor");
    tensors.push_back(std::move(tensor));
    return tensors.size() - 1;
  }

  void bind(TensorId id, void* data) {
    ids.push_back(static_cast<int64_t>(id) + 1);
    pointers.push_back(data);
  }

  void pointwise(CudnnPointwise mode, TensorId x, TensorId b, TensorId y) {
    Descriptor& what = kept.emplace_back(kPointwiseDescriptor);
    what.set(kPointwiseMode, kPointwiseModeType, static_cast<int>(mode))
        .set(kPointwisePrecision, kDataTypeType, kFloatData)
        .finalize("describing a pointwise operation");
    Descriptor operation(kPointwiseOperation);
    operation.set(kPointwiseDescriptorOf, what)
        .set(kPointwiseX, tensors[x])
        .set(kPointwiseB, tensors[b])
        .set(kPointwiseY, tensors[y])
        .set(kPointwiseAlpha1, kFloatType, 1.0F)
        .set(kPointwiseAlpha2, kFloatType, 1.0F)
        .finalize("adding a pointwise operation");
    operations.push_back(std::move(operation));
  }

  void finish_graph() {
    std::vector<Cudnn::Descriptor> list;
    for (const Descriptor& operation : operations) list.push_back(operation.handle());
    graph.emplace(kOperationGraph);
    graph->set(kGraphHandle, kHandleType, Cudnn::get().handle)
        .set(kGraphOperations, kDescriptorType, std::span<const Cudnn::Descriptor>(list))
        .finalize("joining the operations");
  }

  // Engine configurations, best guess first.
  std::vector<Descriptor> configurations(int wanted) {
    std::vector<Descriptor> all;
    for (const int mode : kHeuristicsModes) {
      if (static_cast<int>(all.size()) >= wanted) break;
      Descriptor heuristics(kEngineHeuristics);
      heuristics.set(kHeuristicsGraph, *graph).set(kHeuristicsMode, kHeuristicsModeType, mode);
      if (Cudnn::get().finalize(heuristics.handle()) != 0) continue;
      int64_t count = 0;
      Cudnn::get().get_attribute(heuristics.handle(), kHeuristicsResults, kDescriptorType, 0,
                                 &count, nullptr);
      std::vector<Descriptor> some;
      std::vector<Cudnn::Descriptor> handles;
      for (int64_t i = 0; i < count; ++i) {
        handles.push_back(some.emplace_back(kEngineConfig).handle());
      }
      int64_t got = 0;
      if (Cudnn::get().get_attribute(heuristics.handle(), kHeuristicsResults, kDescriptorType,
                                     count, &got, static_cast<void*>(handles.data())) != 0) {
        continue;
      }
      for (int64_t i = 0; i < got; ++i) all.push_back(std::move(some[static_cast<size_t>(i)]));
    }
    return all;
  }

  // A plan of the configuration, or nothing when cuDNN cannot or it needs too much workspace.
  static std::optional<Descriptor> make_plan(const Descriptor& configuration,
                                             size_t workspace_bytes) {
    Descriptor made(kExecutionPlan);
    made.set(kPlanHandle, kHandleType, Cudnn::get().handle).set(kPlanEngineConfig, configuration);
    if (Cudnn::get().finalize(made.handle()) != 0) return std::nullopt;
    int64_t bytes = 0;
    int64_t count = 0;
    if (Cudnn::get().get_attribute(made.handle(), kPlanWorkspaceSize, kInt64Type, 1, &count,
                                   &bytes) != 0 ||
        bytes > static_cast<int64_t>(workspace_bytes)) {
      return std::nullopt;
    }
    return made;
  }

  void finish_pack(void* workspace) {
    pack.emplace(kVariantPack);
    pack->set(kPackIds, kInt64Type, std::span<const int64_t>(ids))
        .set(kPackPointers, kPointerType, std::span<void* const>(pointers))
        .set(kPackWorkspace, kPointerType, workspace)
        .finalize("binding addresses");
  }

  [[nodiscard]] int run(const Descriptor& with) const {
    return Cudnn::get().execute(Cudnn::get().handle, with.handle(), pack->handle());
  }

  // Null when the configuration does not run.
  std::optional<double> time(const Descriptor& with) const {
    if (run(with) != 0) return std::nullopt;
    return measure_ms([&] { static_cast<void>(run(with)); });
  }
};

CudnnGraph::CudnnGraph() : state_(std::make_unique<State>()) {}
CudnnGraph::~CudnnGraph() = default;

CudnnGraph::TensorId CudnnGraph::tensor(DType dtype, const std::vector<int64_t>& dims,
                                        const std::vector<int64_t>& strides, void* data) {
  const TensorId id = state_->add(dtype, dims, strides, false, false);
  state_->bind(id, data);
  return id;
}

CudnnGraph::TensorId CudnnGraph::inner(DType dtype, const std::vector<int64_t>& dims,
                                       const std::vector<int64_t>& strides) {
  return state_->add(dtype, dims, strides, true, false);
}

CudnnGraph::TensorId CudnnGraph::scalar(float value, size_t rank) {
  const std::vector<int64_t> ones(rank, 1);
  const TensorId id = state_->add(DType::kF32, ones, ones, false, true);
  state_->scalars.push_back(std::make_unique<float>(value));
  state_->bind(id, state_->scalars.back().get());
  return id;
}

void CudnnGraph::convolution(TensorId x, TensorId weight, TensorId y, const CudnnConv& conv) {
  State& s = *state_;
  const std::array<int64_t, 2> ones{1, 1}, strides{conv.stride, conv.stride},
      before{conv.pad_begin, conv.pad_begin}, after{conv.pad_end, conv.pad_end};
  const auto two = [](const std::array<int64_t, 2>& v) { return std::span<const int64_t>(v); };
  Descriptor& what = s.kept.emplace_back(kConvolutionDescriptor);
  what.set(kConvolutionSpatialDims, kInt64Type, int64_t{2})
      .set(kConvolutionPrecision, kDataTypeType, kFloatData)
      .set(kConvolutionMode, kConvolutionModeType, kCrossCorrelation)
      .set(kConvolutionDilations, kInt64Type, two(ones))
      .set(kConvolutionStrides, kInt64Type, two(strides))
      .set(kConvolutionPrePaddings, kInt64Type, two(before))
      .set(kConvolutionPostPaddings, kInt64Type, two(after))
      .finalize("describing a convolution");
  Descriptor operation(kConvolutionForward);
  operation.set(kForwardAlpha, kFloatType, 1.0F)
      .set(kForwardBeta, kFloatType, 0.0F)
      .set(kForwardConvolution, what)
      .set(kForwardW, s.tensors[weight])
      .set(kForwardX, s.tensors[x])
      .set(kForwardY, s.tensors[y])
      .finalize("adding a convolution");
  s.operations.push_back(std::move(operation));
}

void CudnnGraph::pointwise(CudnnPointwise mode, TensorId x, TensorId b, TensorId y) {
  state_->pointwise(mode, x, b, y);
}

void CudnnGraph::attention(TensorId q, TensorId k, TensorId v, TensorId scale, TensorId y) {
  State& s = *state_;
  Descriptor operation(kAttentionOperation);
  operation.set(kAttentionQ, s.tensors[q])
      .set(kAttentionK, s.tensors[k])
      .set(kAttentionV, s.tensors[v])
      .set(kAttentionY, s.tensors[y])
      .set(kAttentionScale, s.tensors[scale])
      .finalize("adding an attention");
  s.operations.push_back(std::move(operation));
}

void CudnnGraph::choose(const std::string& key, int candidates, void* workspace,
                        size_t workspace_bytes) {
  State& s = *state_;
  s.finish_graph();
  s.finish_pack(workspace);
  std::vector<Descriptor> configurations = s.configurations(candidates);
  const std::string name = fmt::format("cudnn{}/{}/{}/sm{}", Cudnn::get().get_version(), key,
                                       workspace_bytes, context().num_sms);
  if (const auto known = context().tuning.find(name)) {
    const size_t index = std::stoul(*known);
    if (index < configurations.size()) {
      s.plan = State::make_plan(configurations[index], workspace_bytes);
      if (s.plan) return;
    }
  }
  // What was enqueued last may have left another one; measuring is done in the common order.
  const Cudnn& cudnn = Cudnn::get();
  Cudnn::check(cudnn.set_stream(cudnn.handle, context().stream), "setting the stream");
  double best = 0;
  size_t chosen = 0;
  int tried = 0;
  for (size_t i = 0; i < configurations.size() && tried < candidates; ++i) {
    std::optional<Descriptor> plan = State::make_plan(configurations[i], workspace_bytes);
    if (!plan) continue;
    ++tried;
    const std::optional<double> ms = s.time(*plan);
    if (!ms || (s.plan && *ms >= best * kWorthwhile)) continue;
    best = *ms;
    chosen = i;
    s.plan = std::move(plan);
  }
  if (!s.plan) {
    throw Error(Errc::kUnsupported, fmt::format("cuDNN: none of {} configurations runs {}",
                                                configurations.size(), key));
  }
  context().tuning.insert(name, fmt::format("{}", chosen));
}

void CudnnGraph::enqueue(cudaStream_t stream) const {
  const Cudnn& cudnn = Cudnn::get();
  Cudnn::check(cudnn.set_stream(cudnn.handle, stream), "setting the stream");
  Cudnn::check(state_->run(*state_->plan), "executing");
}

}  // namespace halftone::backend::cuda
