#include "backend/cpu/onednn/fused_call.h"

#include <algorithm>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <omp.h>

#include "halftone/error.h"

#include "backend/cpu/onednn/onednn.h"
#include "backend/cpu/parallel.h"

namespace halftone::backend::cpu::onednn {
namespace {

constexpr int64_t kBiasPiece = 1024;

bool is_generated_code(const std::string& implementation) {
  return implementation.starts_with("brg") || implementation.starts_with("jit");
}

// A dense stand-in in `storage` for a pitched operand, or the operand itself.
Rows make_dense(const Rows& rows, Tensor& storage) {
  if (!rows || rows.is_dense()) return rows;
  storage = Tensor(TensorType{rows.dtype, {rows.count, rows.size}});
  return Rows(storage.view());
}

void append_activation(dnnl::post_ops& post_ops, graph::Activation activation) {
  using dnnl::algorithm;
  switch (activation) {
    case graph::Activation::kNone:
      return;
    case graph::Activation::kSilu:
      post_ops.append_eltwise(1.0F, algorithm::eltwise_swish, 1.0F, 0.0F);
      return;
    case graph::Activation::kGelu:
      post_ops.append_eltwise(1.0F, algorithm::eltwise_gelu_erf, 0.0F, 0.0F);
      return;
    case graph::Activation::kGeluTanh:
      post_ops.append_eltwise(1.0F, algorithm::eltwise_gelu_tanh, 0.0F, 0.0F);
      return;
    case graph::Activation::kQuickGelu:
      post_ops.append_eltwise(1.0F, algorithm::eltwise_swish, 1.702F, 0.0F);
      return;
  }
}

}  // namespace

std::string version() {
  const dnnl_version_t* v = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", v->major, v->minor, v->patch);
}

void limit_instruction_set(const DeviceInfo& info) {
  dnnl::cpu_isa isa = dnnl::cpu_isa::sse41;
  if (info.has("avx2")) isa = dnnl::cpu_isa::avx2;
  if (info.has("avx512")) isa = dnnl::cpu_isa::avx512_core;
  if (info.has("avx512_vnni")) isa = dnnl::cpu_isa::avx512_core_vnni;
  if (info.has("avx512_bf16")) isa = dnnl::cpu_isa::avx512_core_bf16;
  if (info.has("amx_bf16")) isa = dnnl::cpu_isa::avx512_core_amx;
  // The C function reports "too late" as a status; there is nothing to do about it.
  static_cast<void>(dnnl_set_max_cpu_isa(static_cast<dnnl_cpu_isa_t>(isa)));
}

int use_threads(int threads, int64_t multiply_adds) {
  const int useful = useful_threads(threads, multiply_adds);
  if (omp_get_max_threads() != useful) omp_set_num_threads(useful);
  return useful;
}

const dnnl::engine& engine() {
  static const dnnl::engine kCpu(dnnl::engine::kind::cpu, 0);
  return kCpu;
}

dnnl::memory::data_type data_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return dnnl::memory::data_type::f32;
    case DType::kBF16:
      return dnnl::memory::data_type::bf16;
    default:
      throw Error(Errc::kInternal, "onednn: only f32 and bf16 are in use");
  }
}

dnnl::memory::desc dense(const dnnl::memory::dims& dims, DType dtype) {
  dnnl::memory::dims strides(dims.size(), 1);
  for (size_t i = dims.size() - 1; i-- > 0;) strides[i] = strides[i + 1] * dims[i + 1];
  return {dims, data_type(dtype), strides};
}

dnnl::primitive_attr make_attributes(graph::Activation activation, ResidualMode residual,
                                     const dnnl::memory::desc& dst) {
  dnnl::post_ops post_ops;
  append_activation(post_ops, activation);
  if (residual == ResidualMode::kBinary) post_ops.append_binary(dnnl::algorithm::binary_add, dst);
  if (residual == ResidualMode::kSum) post_ops.append_sum(1.0F);
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(post_ops);
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

Described choose(bool has_residual, const std::function<Described(ResidualMode)>& make) {
  if (!has_residual) return make(ResidualMode::kNone);
  const Described binary = make(ResidualMode::kBinary);
  return is_generated_code(binary.implementation) ? binary : make(ResidualMode::kSum);
}

std::string layout_key(const dnnl::memory::desc& desc) {
  const dnnl_memory_desc_t& d = desc.data;
  const auto& blocking = d.format_desc.blocking;
  const auto ndims = static_cast<size_t>(d.ndims);
  const auto blocks = static_cast<size_t>(blocking.inner_nblks);
  return fmt::format("onednn {} type {} strides {} padded {} blocks {} of {} flags {}",
                     static_cast<int>(d.format_kind), static_cast<int>(d.data_type),
                     fmt::join(std::span(blocking.strides, ndims), ","),
                     fmt::join(std::span(d.padded_dims, ndims), ","),
                     fmt::join(std::span(blocking.inner_blks, blocks), ","),
                     fmt::join(std::span(blocking.inner_idxs, blocks), ","), d.extra.flags);
}

void pack_weight(const VectorOps* ops, const TensorView& weight, const dnnl::memory::desc& from,
                 const dnnl::memory::desc& packed_desc, void* packed) {
  Tensor converted;
  TensorView source = weight;
  if (weight.type.dtype == DType::kF16) {
    converted = Tensor({DType::kF32, weight.type.shape});
    copy_rows(*ops, omp_get_max_threads(), Rows(weight), Rows(converted.view()));
    source = converted.view();
  }
  dnnl::memory::desc source_desc = from;
  source_desc.data.data_type = static_cast<dnnl_data_type_t>(data_type(source.type.dtype));
  dnnl::memory in(source_desc, engine(), source.data);
  dnnl::memory out(packed_desc, engine(), packed);
  dnnl::stream stream(engine());
  dnnl::reorder(in, out).execute(stream, in, out);
  stream.wait();
}

FusedScratch::FusedScratch(const Described& described, int64_t outputs, size_t src_bytes,
                           size_t dst_bytes, void* workspace) {
  Scratch scratch(workspace);
  bias = scratch.take<float>(outputs);
  primitive = scratch.take<std::byte>(static_cast<int64_t>(described.scratchpad.get_size()));
  src = scratch.take<std::byte>(static_cast<int64_t>(src_bytes));
  dst = scratch.take<std::byte>(static_cast<int64_t>(dst_bytes));
  bytes = scratch.used_bytes();
}

void copy_rows(const VectorOps& ops, int threads, const Rows& x, const Rows& y) {
  constexpr int64_t kPiece = 2048;
  const int64_t rows_per_task = std::max<int64_t>(1, 8 * kPiece / std::max<int64_t>(x.size, 1));
  parallel_for(threads, divide_up(x.count, rows_per_task), [&](int64_t task, int) {
    const int64_t last = std::min(x.count, (task + 1) * rows_per_task);
    for (int64_t row = task * rows_per_task; row < last; ++row) {
      for (int64_t col = 0; col < x.size; col += kPiece) {
        alignas(64) float values[kPiece];
        const int64_t n = std::min(kPiece, x.size - col);
        ops.load(x.dtype, x.at(row, col), values, n);
        ops.store(values, y.dtype, y.at(row, col), n);
      }
    }
  });
}

FusedCall::FusedCall(const Described& described, const FusedOperands& operands,
                     const FusedScratch& scratch, const DeviceInfo& info)
    : ops_(vector_ops(info)),
      threads_(info.num_units),
      operands_(operands),
      residual_mode_(described.residual),
      x_(make_dense(operands.x, x_storage_)),
      residual_(make_dense(operands.residual, residual_storage_)),
      y_(make_dense(operands.y, y_storage_)),
      bias_(scratch.bias),
      primitive_(described.create()),
      stream_(engine()) {
  const int64_t runs = operands.row_add ? operands.batch : 1;
  const auto part = [runs](const Rows& rows, int64_t run) {
    return rows.at(rows.count / runs * run);
  };
  for (int64_t run = 0; run < runs; ++run) {
    std::unordered_map<int, dnnl::memory> arguments;
    arguments.emplace(DNNL_ARG_SRC, dnnl::memory(described.src, engine(), part(x_, run)));
    arguments.emplace(DNNL_ARG_WEIGHTS, dnnl::memory(described.weights, engine(), operands.weight));
    arguments.emplace(DNNL_ARG_BIAS, dnnl::memory(described.bias, engine(), bias_));
    arguments.emplace(DNNL_ARG_DST, dnnl::memory(described.dst, engine(), part(y_, run)));
    arguments.emplace(DNNL_ARG_SCRATCHPAD,
                      dnnl::memory(described.scratchpad, engine(), scratch.primitive));
    if (residual_mode_ == ResidualMode::kBinary) {
      arguments.emplace(
          DNNL_ARG_ATTR_MULTIPLE_POST_OP(described.residual_position) | DNNL_ARG_SRC_1,
          dnnl::memory(described.dst, engine(), part(residual_, run)));
    }
    arguments_.push_back(std::move(arguments));
  }
}

void FusedCall::run() const {
  use_threads(threads_, operands_.multiply_adds);
  if (x_.data != operands_.x.data) copy_rows(*ops_, threads_, operands_.x, x_);
  if (residual_mode_ == ResidualMode::kSum) {
    copy_rows(*ops_, threads_, operands_.residual, y_);
  } else if (residual_.data != operands_.residual.data) {
    copy_rows(*ops_, threads_, operands_.residual, residual_);
  }
  for (size_t run = 0; run < arguments_.size(); ++run) {
    const Rows& bias = operands_.bias;
    const Rows& row_add = operands_.row_add;
    std::fill(bias_, bias_ + y_.size, 0.0F);
    if (bias) ops_->load(bias.dtype, bias.data, bias_, y_.size);
    for (int64_t c = 0; row_add && c < y_.size; c += kBiasPiece) {
      alignas(64) float values[kBiasPiece];
      const int64_t n = std::min(kBiasPiece, y_.size - c);
      ops_->load(row_add.dtype, row_add.at(static_cast<int64_t>(run), c), values, n);
      ops_->add(bias_ + c, values, bias_ + c, n);
    }
    primitive_.execute(stream_, arguments_[run]);
  }
  if (y_.data != operands_.y.data) copy_rows(*ops_, threads_, y_, operands_.y);
}

}  // namespace halftone::backend::cpu::onednn
