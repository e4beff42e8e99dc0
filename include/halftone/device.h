// The devices that plans can run on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace halftone {

struct DeviceEntry {
  std::string name;   // what --device takes: "cpu"
  std::string model;  // processor or card
  std::string arch;   // what a plan's fingerprint records
  int num_units = 0;  // threads or multiprocessors
  uint64_t memory_bytes = 0;
  std::vector<std::string> features;    // instruction sets in use
  std::vector<std::string> precisions;  // what kAuto chooses first
};
[[nodiscard]] std::vector<DeviceEntry> list_devices();
[[nodiscard]] std::string to_json(const std::vector<DeviceEntry>& devices);

struct Version {
  std::string version, commit, compiler;
  std::vector<std::string> libraries;  // "oneDNN 2.6.3"
};
[[nodiscard]] Version version();
[[nodiscard]] std::string to_json(const Version& version);

}  // namespace halftone
