// The main door: a model on a device.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "halftone/options.h"
#include "halftone/report.h"

namespace halftone {

// Receives each image when it is finished, in order.
using ImageCallback = std::function<void(Image&& image)>;

// An opened model with its device, plans and loaded weights; what one call loads the next ones use.
// One caller at a time. Every function throws halftone::Error.
class Session {
 public:
  // Opens and checks the model and the device; no tensor is read yet.
  explicit Session(SessionOptions options);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  // Defaults filled in and checked, and the plans that would run; nothing is built.
  [[nodiscard]] DryRun dry_run(const GenerateOptions& options);
  // Progress returning false stops within one step with kCancelled.
  GenerateReport generate(const GenerateOptions& options, const ImageCallback& on_image);
  // Makes (or finds) the plans of one size.
  BuildReport build(const BuildOptions& options);
  // Runs generate repeatedly and reports the spread and the time per operator class.
  BenchReport bench(const BenchOptions& options);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Writes a PNG whole or not at all. Its text chunks are dropped when `with_metadata` is false.
void write_png(const Image& image, const std::string& path, bool with_metadata = true);

// JSON twins, schema "halftone.<verb>/v1".
[[nodiscard]] std::string to_json(const DryRun& result);
[[nodiscard]] std::string to_json(const GenerateReport& report,
                                  const std::vector<std::string>& files);
[[nodiscard]] std::string to_json(const BuildReport& report);
// One JSON object a line.
[[nodiscard]] std::string to_json_lines(const BenchReport& report);

}  // namespace halftone
