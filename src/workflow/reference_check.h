// --reference-check: every call of every plan beside its reference on the same inputs.
#pragma once

#include <string>
#include <vector>

#include "halftone/report.h"

#include "runtime/executor.h"

namespace halftone::workflow {

// The relative L2 error that a correct kernel of this output type stays below: 1e-4 for f32 (sums
// in another order), 5e-3 for f16, 2e-2 for bf16 (operands rounded on the way too) and 8-bit
// integers (values on the edge of two codes), 5e-2 for 8-bit floats.
[[nodiscard]] double relative_l2_limit(DType dtype);

class ReferenceCheck {
 public:
  // Evaluates the reference of a call that has just run and keeps the comparison. Values that are
  // not finite where the reference is count as infinitely wrong.
  void add(const std::string& component, const runtime::ObservedCall& observed);
  // Largest share of the limit first.
  [[nodiscard]] std::vector<NodeCheck> worst_first() const;

 private:
  std::vector<NodeCheck> checks_;
};

}  // namespace halftone::workflow
