#include "backend/cuda/libraries/nvml.h"

#include <utility>

#include <fmt/format.h>

#include "backend/cuda/libraries/dynamic_library.h"

namespace halftone::backend::cuda {
namespace {

constexpr int kSuccess = 0;
constexpr int kClockSm = 1;
constexpr unsigned kMigEnabled = 1;

// Initialised as long as it lives; the library counts.
class Session {
 public:
  explicit Session(const Nvml& nvml) : nvml_(nvml), code_(nvml.init()) {}
  ~Session() {
    if (code_ == kSuccess && nvml_.shutdown != nullptr) nvml_.shutdown();
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  [[nodiscard]] int code() const { return code_; }

 private:
  Nvml nvml_;
  int code_;
};

std::string text_of(const Nvml& nvml, int code) {
  const char* text = nvml.error_string == nullptr ? nullptr : nvml.error_string(code);
  return text == nullptr ? fmt::format("NVML error {}", code) : text;
}

class NvmlMeter final : public PowerMeter {
 public:
  NvmlMeter(const Nvml& nvml, std::unique_ptr<Session> session, Nvml::Device device)
      : nvml_(nvml), session_(std::move(session)), device_(device) {}

  [[nodiscard]] std::optional<double> energy_j() const override {
    unsigned long long mj = 0;
    return ask(nvml_.total_energy_mj, mj) == kSuccess ? thousandth(mj) : std::nullopt;
  }
  [[nodiscard]] std::optional<double> power_limit_w() const override {
    unsigned mw = 0;
    return ask(nvml_.power_limit_mw, mw) == kSuccess ? thousandth(mw) : std::nullopt;
  }
  [[nodiscard]] std::optional<double> clock_mhz() const override {
    unsigned mhz = 0;
    return ask_clock(mhz) == kSuccess ? std::optional<double>(mhz) : std::nullopt;
  }

  // Leaves out what fails now, so that it is not asked again and again. False: nothing is left.
  bool keep_what_answers(std::string& missing) {
    const auto keep = [&](const char* name, auto& function, int code) {
      if (code == kSuccess) return;
      missing += missing.empty() ? "" : "; ";
      missing += fmt::format("{}: {}", name,
                             code == kAbsent ? "the driver is too old" : text_of(nvml_, code));
      function = nullptr;
    };
    unsigned long long mj = 0;
    unsigned value = 0;
    keep("energy", nvml_.total_energy_mj, ask(nvml_.total_energy_mj, mj));
    keep("power limit", nvml_.power_limit_mw, ask(nvml_.power_limit_mw, value));
    keep("clock", nvml_.clock_mhz, ask_clock(value));
    return nvml_.total_energy_mj != nullptr || nvml_.power_limit_mw != nullptr ||
           nvml_.clock_mhz != nullptr;
  }

 private:
  static constexpr int kAbsent = -1;

  [[nodiscard]] static std::optional<double> thousandth(unsigned long long value) {
    return static_cast<double>(value) / 1000;
  }
  template <class T>
  [[nodiscard]] int ask(int (*function)(Nvml::Device, T*), T& value) const {
    return function == nullptr ? kAbsent : function(device_, &value);
  }
  [[nodiscard]] int ask_clock(unsigned& mhz) const {
    return nvml_.clock_mhz == nullptr ? kAbsent : nvml_.clock_mhz(device_, kClockSm, &mhz);
  }

  Nvml nvml_;
  std::unique_ptr<Session> session_;
  Nvml::Device device_;
};

}  // namespace

Nvml Nvml::load(std::string& missing) {
  const DynamicLibrary library({"libnvidia-ml.so.1"});
  Nvml nvml;
  missing.clear();
  if (!library.is_loaded()) {
    missing = library.error();
    return nvml;
  }
  library.find("nvmlInit_v2", nvml.init);
  library.find("nvmlShutdown", nvml.shutdown);
  library.find("nvmlErrorString", nvml.error_string);
  library.find("nvmlDeviceGetHandleByPciBusId_v2", nvml.device_by_pci_bus_id);
  library.find("nvmlDeviceGetMigMode", nvml.mig_mode);
  library.find("nvmlDeviceGetTotalEnergyConsumption", nvml.total_energy_mj);
  library.find("nvmlDeviceGetEnforcedPowerLimit", nvml.power_limit_mw);
  library.find("nvmlDeviceGetClockInfo", nvml.clock_mhz);
  return nvml;
}

std::unique_ptr<PowerMeter> open_nvml_meter(const Nvml& nvml, const std::string& pci_bus_id,
                                            std::string& missing) {
  missing.clear();
  if (nvml.init == nullptr || nvml.device_by_pci_bus_id == nullptr) {
    missing = "the driver's NVML is too old";
    return nullptr;
  }
  auto session = std::make_unique<Session>(nvml);
  if (session->code() != kSuccess) {
    missing = "NVML: " + text_of(nvml, session->code());
    return nullptr;
  }
  Nvml::Device device = nullptr;
  if (const int code = nvml.device_by_pci_bus_id(pci_bus_id.c_str(), &device); code != kSuccess) {
    missing = fmt::format("NVML, device {}: {}", pci_bus_id, text_of(nvml, code));
    return nullptr;
  }
  unsigned mig = 0;
  unsigned pending = 0;
  // Boards that cannot be divided do not know the question.
  const bool is_known =
      nvml.mig_mode != nullptr && nvml.mig_mode(device, &mig, &pending) == kSuccess;
  if (is_known && mig == kMigEnabled) {
    missing = "the board is divided (MIG); its figures are of all parts";
    return nullptr;
  }
  auto meter = std::make_unique<NvmlMeter>(nvml, std::move(session), device);
  if (!meter->keep_what_answers(missing)) return nullptr;
  return meter;
}

}  // namespace halftone::backend::cuda
