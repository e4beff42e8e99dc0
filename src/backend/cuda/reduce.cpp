// Reduce and Histogram (plain/reduce.cu).
#include "backend/cuda/call.h"
#include "backend/cuda/kernels.h"

namespace halftone::backend::cuda {
namespace {

using graph::Granularity;
using graph::Role;

size_t workspace_reduce(const graph::OpDesc& desc, const DeviceInfo& /*info*/, Config /*config*/) {
  const int64_t groups = desc.output().shape.num_elements();
  return static_cast<size_t>(groups * reduce_pieces(groups)) * sizeof(double);
}

std::unique_ptr<Launch> prepare_reduce(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                       Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Reduce>();
  const TensorView& x = *find_view(desc, operands, Role::kX);
  ReduceArgs args;
  args.x = typed(x);
  args.y = operands.outputs[0].as<float>();
  args.partial = static_cast<double*>(operands.workspace);
  args.kind = static_cast<ReduceKind>(op.reduction);
  args.columns = op.granularity == Granularity::kPerColumn;
  args.rows = x.type.shape.num_rows();
  args.cols = x.type.shape.row_size();
  args.pitch = x.row_pitch;
  args.groups = desc.output().shape.num_elements();
  return make_launch([args](cudaStream_t stream) { launch_reduce(args, stream); });
}

std::unique_ptr<Launch> prepare_histogram(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                          Config /*config*/, const Operands& operands) {
  const TensorView& x = *find_view(desc, operands, Role::kX);
  HistogramArgs args;
  args.x = typed(x);
  args.y = operands.outputs[0].as<int32_t>();
  args.bins = static_cast<int>(graph::kHistogramBins);
  args.rows = x.type.shape.num_rows();
  args.cols = x.type.shape.row_size();
  args.pitch = x.row_pitch;
  return make_launch([args](cudaStream_t stream) { launch_histogram(args, stream); });
}

Support supports_statistics(const graph::OpDesc& desc, const DeviceInfo& /*info*/) {
  return is_plain_float(desc.input(Role::kX)->dtype) ? Support::yes()
                                                     : Support::no("wants f32, f16 or bf16");
}

}  // namespace

const Kernel reduce_plain = plain_kernel("cuda.reduce.plain", graph::OpKind::kReduce,
                                         supports_statistics, prepare_reduce, workspace_reduce);
const Kernel histogram_plain = plain_kernel("cuda.histogram.plain", graph::OpKind::kHistogram,
                                            supports_statistics, prepare_histogram);

}  // namespace halftone::backend::cuda
