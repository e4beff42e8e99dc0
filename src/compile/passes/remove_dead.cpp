// Drops nodes that no output needs.
#include "compile/compile.h"
#include "compile/rewrite.h"

namespace halftone::compile {
extern const Pass kPass_remove_dead;
const Pass kPass_remove_dead{"remove_dead", "drops nodes that no output needs", true,
                             drop_dead_nodes};

}  // namespace halftone::compile
