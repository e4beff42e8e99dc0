#include "workflow/report_json.h"

namespace halftone::workflow {

std::string_view build_commit() { return HALFTONE_COMMIT; }

}  // namespace halftone::workflow
