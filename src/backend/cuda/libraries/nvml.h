// The driver's management library (NVML), loaded at run time. Only what we call is declared here,
// so that building needs no nvml.h; names and values are those of version 12, which later ones
// keep.
#pragma once

#include <memory>
#include <string>

#include "backend/power_meter.h"

namespace halftone::backend::cuda {

// Functions that the library lacks, or all where there is no library, are null.
struct Nvml {
  using Device = struct nvmlDevice_st*;

  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*error_string)(int) = nullptr;
  int (*device_by_pci_bus_id)(const char*, Device*) = nullptr;
  int (*mig_mode)(Device, unsigned* current, unsigned* pending) = nullptr;
  int (*total_energy_mj)(Device, unsigned long long*) = nullptr;
  int (*power_limit_mw)(Device, unsigned*) = nullptr;  // the lowest of all limits
  int (*clock_mhz)(Device, int type, unsigned*) = nullptr;

  // Loads the library; `missing` is why there is none, or empty.
  [[nodiscard]] static Nvml load(std::string& missing);
};

// Of the board at this PCI bus id ("0000:1b:00.0"). Null when nothing can be asked; `missing` lists
// what cannot, with the reason, and is empty when everything can.
[[nodiscard]] std::unique_ptr<PowerMeter> open_nvml_meter(const Nvml& nvml,
                                                          const std::string& pci_bus_id,
                                                          std::string& missing);

}  // namespace halftone::backend::cuda
