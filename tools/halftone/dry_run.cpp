#include "dry_run.h"

#include <fmt/format.h>

#include "halftone/session.h"

namespace halftone::cli {

void print_dry_run(const SessionOptions& session, const GenerateOptions& request) {
  fmt::print("{}\n", to_json(Session(session).dry_run(request)));
}

}  // namespace halftone::cli
