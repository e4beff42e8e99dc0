// Where the pictures of a run go.
#pragma once

#include <string>
#include <string_view>

namespace halftone::cli {

struct OutputArgs {
  std::string output;      // as typed; empty = output.png, next free number
  std::string output_dir;  // prepended to relative paths
  bool no_clobber = false;
};

// Names of a run's files, in order. "%03d" in the name counts from 0; otherwise several images get
// _1, _2, ... before the extension. A name the user chose is replaced, the default one takes the
// next free number. Throws UsageError for a bad pattern or extension and for --no-clobber's reason.
class OutputNames {
 public:
  OutputNames(OutputArgs args, int num_images, std::string extension);
  // Checks that every name can be used, before any work is done.
  void check() const;
  [[nodiscard]] std::string next();

 private:
  [[nodiscard]] std::string name(int index) const;

  OutputArgs args_;
  int num_images_;
  std::string extension_;
  bool is_default_;  // the user chose no name
  int index_ = 0;
  int first_number_ = 0;  // of the default name: 0 = "output.png" itself is free
};

// "out.png" and 2: "out_2.png".
[[nodiscard]] std::string numbered(const std::string& path, int number);
// Throws UsageError naming the flag when a file cannot be put there; an empty path is none.
void need_folder_of(const std::string& path, std::string_view flag);

}  // namespace halftone::cli
