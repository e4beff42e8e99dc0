#include "backend/cuda/context.h"

#include <memory>

#include "halftone/error.h"

namespace halftone::backend::cuda {
namespace {

std::unique_ptr<Context>& slot() {
  static std::unique_ptr<Context> context;
  return context;
}

}  // namespace

Context& context() {
  check_internal(slot() != nullptr, "no CUDA device was created");
  return *slot();
}

void set_context(std::unique_ptr<Context> context) { slot() = std::move(context); }

}  // namespace halftone::backend::cuda
