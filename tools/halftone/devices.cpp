// halftone devices: what plans can run on.
#include <vector>

#include <fmt/format.h>

#include "halftone/device.h"

#include "verbs.h"

namespace halftone::cli {

void print_devices(const CommonOptions& common) {
  std::vector<DeviceEntry> devices = list_devices();
  if (common.device != "auto") {
    const std::string wanted = common.device == "cuda" ? "cuda:0" : common.device;
    std::erase_if(devices, [&](const DeviceEntry& device) { return device.name != wanted; });
  }
  if (devices.empty()) {
    throw UsageError(fmt::format("--device {}: not found; 'halftone devices' lists those there are",
                                 common.device));
  }
  if (!common.json.empty()) {
    write_json(common, to_json(devices));
    if (json_on_stdout(common)) return;
  }
  for (const DeviceEntry& device : devices) {
    fmt::print(
        "{}: {}\n  arch        {}\n  threads     {}\n  memory      {:.1f} GiB\n  features    {}\n"
        "  precisions  {}\n",
        device.name, device.model, device.arch, device.num_units,
        static_cast<double>(device.memory_bytes) / (1024.0 * 1024.0 * 1024.0),
        fmt::join(device.features, " "), fmt::join(device.precisions, " "));
  }
}

int run_devices(Args args) {
  CommonOptions common;
  CLI::App app("Lists the devices plans can run on.", "halftone devices");
  add_common(app, common);
  return run_verb({"devices", app, args, {}}, common, [&] {
    // The environment says which device is to be used, not which is to be listed.
    if (!is_typed(*app.get_option("--device"), args)) common.device = "auto";
    print_devices(common);
  });
}

}  // namespace halftone::cli
