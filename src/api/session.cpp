#include "halftone/session.h"

#include <memory>
#include <utility>

#include <fmt/format.h>

#include "halftone/device.h"

#include "api/backends.h"
#include "io/image.h"
#include "workflow/generator.h"
#include "workflow/image_metadata.h"

namespace halftone {

struct Session::Impl {
  explicit Impl(SessionOptions options)
      : choice(choose(options)),
        device(api::create_device(choice.name, {.threads = options.threads,
                                                .cache_dir = options.cache_dir,
                                                .memory_limit = options.memory_limit,
                                                .overlap_launches = options.overlap_launches})),
        generator(*device, std::move(options)) {}

  static api::DeviceChoice choose(const SessionOptions& options) {
    if (!options.device.empty() && options.device != "auto") return {options.device, ""};
    api::DeviceChoice choice = api::choose_device();
    log(options.logger, LogLevel::kInfo, "device",
        fmt::format("{} ({})", choice.name, choice.reason));
    return choice;
  }

  api::DeviceChoice choice;
  std::unique_ptr<backend::Device> device;
  workflow::Generator generator;
};

Session::Session(SessionOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

DryRun Session::dry_run(const GenerateOptions& options) {
  DryRun result = impl_->generator.dry_run(options);
  result.request.device_reason = impl_->choice.reason;
  return result;
}

GenerateReport Session::generate(const GenerateOptions& options, const ImageCallback& on_image) {
  GenerateReport report = impl_->generator.generate(options, on_image);
  report.request.device_reason = impl_->choice.reason;
  return report;
}

BuildReport Session::build(const BuildOptions& options) { return impl_->generator.build(options); }

BenchReport Session::bench(const BenchOptions& options) {
  BenchReport report = impl_->generator.bench(options);
  report.last.request.device_reason = impl_->choice.reason;
  report.libraries = version().libraries;
  return report;
}

void write_png(const Image& image, const std::string& path, bool with_metadata) {
  std::vector<io::TextChunk> chunks;
  if (with_metadata) {
    chunks.push_back({"parameters", image.parameters});
    chunks.push_back({"halftone", image.metadata});
    chunks.push_back({"XML:com.adobe.xmp", workflow::disclosure_xmp()});
  }
  io::write_png(path, {.width = image.width, .height = image.height, .rgb = image.rgb}, chunks);
}

}  // namespace halftone
