// unary, affine, add, geglu, cast: one kernel with run-time types (plain/elementwise.cu).
#include "backend/cuda/call.h"
#include "backend/cuda/kernels.h"

namespace halftone::backend::cuda {
namespace {

using graph::Role;

// The output as rows of its last axis, from x.
EpilogueArgs rows_of(const graph::OpDesc& desc, const Operands& operands) {
  return epilogue_of(desc, operands, typed(operands.inputs[0]));
}

std::unique_ptr<Launch> launch(const EpilogueArgs& args) {
  return make_launch([args](cudaStream_t stream) { launch_epilogue(args, stream); });
}

std::unique_ptr<Launch> prepare_unary(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  EpilogueArgs args = rows_of(desc, operands);
  args.act = act_of(desc.as<graph::Unary>().activation);
  return launch(args);
}

std::unique_ptr<Launch> prepare_cast(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                     Config /*config*/, const Operands& operands) {
  return launch(rows_of(desc, operands));
}

std::unique_ptr<Launch> prepare_geglu(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                      Config /*config*/, const Operands& operands) {
  EpilogueArgs args = rows_of(desc, operands);
  args.geglu = true;
  return launch(args);
}

std::unique_ptr<Launch> prepare_add(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                    Config /*config*/, const Operands& operands) {
  EpilogueArgs args = rows_of(desc, operands);
  const TensorView& b = operands.inputs[1];
  const Typed other = typed(b);
  if (desc.as<graph::Add>().broadcast_batch) {
    args.residual = other;
    args.residual_rows = b.type.shape.num_rows();
  } else if (b.type.shape == operands.inputs[0].type.shape) {
    args.residual = other;
  } else {
    args.row_add = other;
  }
  return launch(args);
}

std::unique_ptr<Launch> prepare_affine(const graph::OpDesc& desc, const DeviceInfo& /*info*/,
                                       Config /*config*/, const Operands& operands) {
  const auto& op = desc.as<graph::Affine>();
  AffineArgs args;
  args.x = typed(operands.inputs[0]);
  args.y = typed_out(operands.outputs[0]);
  args.count = desc.output().shape.num_elements();
  args.scale = static_cast<float>(op.scale);
  args.shift = static_cast<float>(op.shift);
  args.low = static_cast<float>(op.low);
  args.high = static_cast<float>(op.high);
  return make_launch([args](cudaStream_t stream) { launch_affine(args, stream); });
}

}  // namespace

const Kernel unary_plain =
    plain_kernel("cuda.unary.plain", graph::OpKind::kUnary, supports_floats, prepare_unary);
const Kernel affine_plain =
    plain_kernel("cuda.affine.plain", graph::OpKind::kAffine, supports_floats, prepare_affine);
const Kernel add_plain =
    plain_kernel("cuda.add.plain", graph::OpKind::kAdd, supports_floats, prepare_add);
const Kernel geglu_plain =
    plain_kernel("cuda.geglu.plain", graph::OpKind::kGeglu, supports_floats, prepare_geglu);
const Kernel cast_plain =
    plain_kernel("cuda.cast.plain", graph::OpKind::kCast, supports_floats, prepare_cast);

}  // namespace halftone::backend::cuda
