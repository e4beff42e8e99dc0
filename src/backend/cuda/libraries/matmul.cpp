#include "backend/cuda/libraries/matmul.h"

#include <array>
#include <cstring>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "halftone/error.h"

#include "backend/cuda/context.h"
#include "backend/cuda/libraries/cublaslt.h"
#include "backend/cuda/measure.h"

namespace halftone::backend::cuda {
namespace {

constexpr int kMaxCandidates = 8;
// A later candidate must win by this much: the order is the library's own estimate.
constexpr double kWorthwhile = 0.98;

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kI8:
      return CUDA_R_8I;
    case DType::kI32:
      return CUDA_R_32I;
    case DType::kF8E4M3:
      return CUDA_R_8F_E4M3;
    default:
      return CUDA_R_32F;
  }
}

std::string to_hex(const cublasLtMatmulAlgo_t& algorithm) {
  std::string text;
  for (const uint64_t word : algorithm.data) text += fmt::format("{:016x}", word);
  return text;
}

std::optional<cublasLtMatmulAlgo_t> from_hex(const std::string& text) {
  cublasLtMatmulAlgo_t algorithm{};
  if (text.size() != std::size(algorithm.data) * 16) return std::nullopt;
  for (size_t i = 0; i < std::size(algorithm.data); ++i) {
    algorithm.data[i] = std::stoull(text.substr(i * 16, 16), nullptr, 16);
  }
  return algorithm;
}

}  // namespace

// The library is column-major: it computes y^T = weight * x^T.
struct Matmul::Bound {
  MatmulArgs args;
  cublasLtMatmulDescOpaque_t desc{};
  cublasLtMatrixLayoutOpaque_t a{}, b{}, d{};
  cublasLtMatmulAlgo_t algorithm{};

  explicit Bound(const MatmulArgs& given) : args(given) {
    const CublasLt& lt = CublasLt::get();
    const auto compute = is_integer() ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F;
    const auto scale_type = is_integer() ? CUDA_R_32I : CUDA_R_32F;
    CublasLt::check(lt.init_desc(&desc, sizeof(desc), compute, scale_type), "describing a product");
    const cublasOperation_t transposed = args.weight_is_in_out ? CUBLAS_OP_N : CUBLAS_OP_T;
    set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
    if (args.bias != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias);
    }
    const auto rows = static_cast<uint64_t>(args.rows);
    const auto in = static_cast<uint64_t>(args.in);
    const auto out = static_cast<uint64_t>(args.out);
    init(a, args.dtype, args.weight_is_in_out ? out : in, args.weight_is_in_out ? in : out,
         args.weight_pitch);
    init(b, args.dtype, in, rows, args.x_pitch);
    init(d, args.y_dtype, out, rows, args.y_pitch);
  }

  [[nodiscard]] bool is_integer() const { return args.dtype == DType::kI8; }

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    CublasLt::check(
        CublasLt::get().set_desc(&desc, attribute, static_cast<const void*>(&value), sizeof(value)),
        "describing a product");
  }

  static void init(cublasLtMatrixLayoutOpaque_t& layout, DType dtype, uint64_t rows, uint64_t cols,
                   int64_t pitch) {
    CublasLt::check(
        CublasLt::get().init_layout(&layout, sizeof(layout), data_type(dtype), rows, cols, pitch),
        "describing a matrix");
  }

  cublasStatus_t run(const cublasLtMatmulAlgo_t& with, cudaStream_t stream) const {
    const CublasLt& lt = CublasLt::get();
    const float beta = args.residual != nullptr ? 1.0F : 0.0F;
    constexpr int32_t kOne = 1;
    constexpr int32_t kZero = 0;
    const void* alpha = is_integer() ? static_cast<const void*>(&kOne) : &args.scale;
    const void* residual_scale = is_integer() ? static_cast<const void*>(&kZero) : &beta;
    const void* c = args.residual != nullptr ? args.residual : args.y;
    return lt.matmul(lt.handle, const_cast<cublasLtMatmulDescOpaque_t*>(&desc), alpha, args.weight,
                     const_cast<cublasLtMatrixLayoutOpaque_t*>(&a), args.x,
                     const_cast<cublasLtMatrixLayoutOpaque_t*>(&b), residual_scale, c,
                     const_cast<cublasLtMatrixLayoutOpaque_t*>(&d), args.y,
                     const_cast<cublasLtMatrixLayoutOpaque_t*>(&d), &with, args.workspace,
                     args.workspace_bytes, stream);
  }

  [[nodiscard]] std::string key() const {
    return fmt::format("cublaslt{}/{}x{}x{}/{}>{}/{},{},{}/{}{}{}/{}/sm{}",
                       CublasLt::get().get_version(), args.rows, args.out, args.in,
                       to_string(args.dtype), to_string(args.y_dtype), args.x_pitch,
                       args.weight_pitch, args.y_pitch, args.bias != nullptr ? 'b' : '-',
                       args.residual != nullptr ? 'r' : '-', args.weight_is_in_out ? 'n' : 't',
                       args.workspace_bytes, context().num_sms);
  }

  void choose() {
    const CublasLt& lt = CublasLt::get();
    if (const auto known = context().tuning.find(key())) {
      const auto kept = from_hex(*known);
      cublasLtMatmulHeuristicResult_t result{};
      if (kept &&
          lt.check_algorithm(lt.handle, &desc, &a, &b, &d, &d, &*kept, &result) ==
              CUBLAS_STATUS_SUCCESS &&
          result.workspaceSize <= args.workspace_bytes) {
        algorithm = *kept;
        return;
      }
    }
    cublasLtMatmulPreferenceOpaque_t preference{};
    CublasLt::check(lt.init_preference(&preference, sizeof(preference)), "describing a preference");
    CublasLt::check(lt.set_preference(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                      &args.workspace_bytes, sizeof(args.workspace_bytes)),
                    "describing a preference");
    std::array<cublasLtMatmulHeuristicResult_t, kMaxCandidates> results{};
    int count = 0;
    const cublasStatus_t status = lt.get_heuristic(lt.handle, &desc, &a, &b, &d, &d, &preference,
                                                   kMaxCandidates, results.data(), &count);
    if (status != CUBLAS_STATUS_SUCCESS || count == 0) {
      throw Error(Errc::kUnsupported, fmt::format("cuBLASLt: no algorithm for {} (status {})",
                                                  key(), static_cast<int>(status)));
    }
    double best = 0;
    bool found = false;
    for (int i = 0; i < count; ++i) {
      const cublasLtMatmulAlgo_t& candidate = results[static_cast<size_t>(i)].algo;
      if (run(candidate, context().stream) != CUBLAS_STATUS_SUCCESS) continue;
      const double ms = measure_ms([&] { static_cast<void>(run(candidate, context().stream)); });
      if (found && ms >= best * kWorthwhile) continue;
      best = ms;
      found = true;
      algorithm = candidate;
    }
    if (!found) {
      throw Error(Errc::kUnsupported, fmt::format("cuBLASLt: no algorithm runs for {}", key()));
    }
    context().tuning.insert(key(), to_hex(algorithm));
  }
};

Matmul::Matmul(const MatmulArgs& args) {
  auto bound = std::make_shared<Bound>(args);
  bound->choose();
  bound_ = std::move(bound);
}

void Matmul::enqueue(cudaStream_t stream) const {
  CublasLt::check(bound_->run(bound_->algorithm, stream), "multiplying");
}

}  // namespace halftone::backend::cuda
