// LoRA files: every spelling of one file gives the same weights, and every row of damaged files.
#include "io/lora.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "halftone/error.h"

#include "base/file.h"
#include "base/folder.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(HALFTONE_SOURCE_DIR) / "tests" / "golden";
const std::string kLinear =
    "unet/down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0.weight";
const std::string kConv = "unet/up_blocks.2.resnets.1.conv1.weight";
const std::string kLinearKohya =
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0";

struct Entry {
  std::string name;
  Shape shape;
  std::vector<float> values{};  // one value fills the tensor; none: 0.01
  DType dtype = DType::kF32;
};
using Metadata = std::vector<std::pair<std::string, std::string>>;

std::vector<float> noise(const Shape& shape, uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(static_cast<size_t>(shape.num_elements()));
  for (float& v : values) v = uniform(engine);
  return values;
}

class LoraTest : public ::testing::Test {
 protected:
  void SetUp() override {
    base_ = Checkpoint::open((kGolden / "tiny-sdxl").string());
    logger_ = [this](LogLevel, std::string_view, std::string_view text) {
      log_.append(text).append("\n");
    };
  }

  fs::path write(const std::string& name, const std::vector<Entry>& entries,
                 const Metadata& metadata = {}) const {
    std::vector<NamedType> types;
    for (const Entry& entry : entries) types.push_back({entry.name, {entry.dtype, entry.shape}});
    SafetensorsWriter writer(folder_ / name, types, metadata);
    for (const Entry& entry : entries) {
      size_t index = 0;
      while (writer.tensors()[index].name != entry.name) ++index;
      std::vector<float> values = entry.values;
      values.resize(static_cast<size_t>(entry.shape.num_elements()),
                    entry.values.empty() ? 0.01F : entry.values[0]);
      std::vector<std::byte> bytes(values.size() * size_of(entry.dtype));
      if (is_floating(entry.dtype)) {
        convert(values.data(), DType::kF32, bytes.data(), entry.dtype, values.size());
      }
      writer.write(index, 0, bytes);
    }
    writer.commit();
    return folder_ / name;
  }

  LoraWeights open(const fs::path& path, double weight = 1) const {
    const LoraSpec spec{path.string(), weight};
    return LoraWeights(base_, {&spec, 1}, {}, logger_);
  }

  static std::vector<float> read(const WeightSource& source, const std::string& name) {
    const TensorType type{DType::kF32, source.type(name).shape};
    std::vector<float> out(static_cast<size_t>(type.shape.num_elements()));
    source.read(name, type, std::as_writable_bytes(std::span(out)).data());
    return out;
  }

  // W + scale * up * down, in f64.
  std::vector<float> sum(const std::string& name, const std::vector<float>& down,
                         const std::vector<float>& up, int64_t rank, double scale) const {
    std::vector<float> w = read(*base_, name);
    const auto rows = static_cast<size_t>(base_->type(name).shape[0]);
    const size_t columns = w.size() / rows;
    const auto r = static_cast<size_t>(rank);
    for (size_t i = 0; i < w.size(); ++i) {
      double product = 0;
      for (size_t k = 0; k < r; ++k) {
        product += double{up[i / columns * r + k]} * double{down[k * columns + i % columns]};
      }
      w[i] = static_cast<float>(double{w[i]} + scale * product);
    }
    return w;
  }

  static void expect_near(const std::vector<float>& got, const std::vector<float>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 2e-6F) << i;
  }

  Shape shape(const std::string& name) const { return base_->type(name).shape; }

  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path();
  std::shared_ptr<const Checkpoint> base_;
  std::string log_;
  Logger logger_;
};

// How one layer's factors are called in a layout.
struct Layout {
  std::string name, linear_down, linear_up, conv_down, conv_up, linear_alpha;
};

TEST_F(LoraTest, EverySpellingGivesTheSameWeights) {
  const std::string linear = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.";
  const std::string conv = "unet.up_blocks.2.resnets.1.conv1.";
  const std::string ldm = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0.";
  const std::vector<Layout> layouts = {
      {"kohya", kLinearKohya + ".lora_down.weight", kLinearKohya + ".lora_up.weight",
       "lora_unet_up_blocks_2_resnets_1_conv1.lora_down.weight",
       "lora_unet_up_blocks_2_resnets_1_conv1.lora_up.weight", kLinearKohya + ".alpha"},
      {"kohya-ldm", ldm + "lora_down.weight", ldm + "lora_up.weight",
       "lora_unet_output_blocks_7_0_in_layers_2.lora_down.weight",
       "lora_unet_output_blocks_7_0_in_layers_2.lora_up.weight", ldm + "alpha"},
      {"peft", "unet." + linear + "to_out.0.lora_A.weight",
       "unet." + linear + "to_out.0.lora_B.weight", conv + "lora_A.weight", conv + "lora_B.weight",
       "unet." + linear + "to_out.0.alpha"},
      {"processor", "unet." + linear + "processor.to_out_lora.down.weight",
       "unet." + linear + "processor.to_out_lora.up.weight", conv + "lora.down.weight",
       conv + "lora.up.weight", "unet." + linear + "to_out.0.alpha"},
      {"layers", "unet." + linear + "to_out.0.lora_linear_layer.down.weight",
       "unet." + linear + "to_out.0.lora_linear_layer.up.weight", conv + "lora_A.weight",
       conv + "lora_B.weight", "unet." + linear + "to_out.0.alpha"},
  };
  const int64_t linear_rank = 3, conv_rank = 2;
  const Shape w = shape(kLinear), k = shape(kConv);
  const Shape down{linear_rank, w[1]}, up{w[0], linear_rank};
  const Shape conv_down{conv_rank, k[1], k[2], k[3]}, conv_up{k[0], conv_rank, 1, 1};
  const auto a = noise(down, 1), b = noise(up, 2), ca = noise(conv_down, 3), cb = noise(conv_up, 4);
  for (const Layout& layout : layouts) {
    SCOPED_TRACE(layout.name);
    const fs::path file = write(layout.name, {{layout.linear_down, down, a},
                                              {layout.linear_up, up, b},
                                              {layout.linear_alpha, {}, {6}},
                                              {layout.conv_down, conv_down, ca},
                                              {layout.conv_up, conv_up, cb}});
    const LoraWeights loras = open(file, 0.5);
    EXPECT_EQ(loras.entries()[0].lora->modules.size(), 2U);
    expect_near(read(loras, kLinear), sum(kLinear, a, b, linear_rank, 0.5 * 6 / 3));
    expect_near(read(loras, kConv), sum(kConv, ca, cb, conv_rank, 0.5));
    EXPECT_EQ(loras.type(kLinear).dtype, DType::kF32);
    const std::string other = "unet/conv_in.weight";
    EXPECT_EQ(read(loras, other), read(*base_, other));
    EXPECT_EQ(loras.type(other), base_->type(other));
  }
  EXPECT_EQ(log_, "");
}

TEST_F(LoraTest, TextEncodersHaveNamesOfTheirOwn) {
  const std::string flat = "text_model_encoder_layers_0_mlp_fc1";
  const std::string one = "text_encoder/text_model.encoder.layers.0.mlp.fc1.weight";
  const std::string two = "text_encoder_2/text_model.encoder.layers.0.mlp.fc1.weight";
  const auto pair = [&](const std::string& prefix, const std::string& weight, const char* down,
                        const char* up) -> std::vector<Entry> {
    return {{prefix + down, {1, shape(weight)[1]}}, {prefix + up, {shape(weight)[0], 1}}};
  };
  const auto expect_changes = [&](const std::string& name, const std::vector<Entry>& entries,
                                  const std::string& changed) {
    const LoraWeights loras = open(write(name, entries));
    ASSERT_EQ(loras.entries()[0].lora->modules.size(), 1U) << name;
    EXPECT_EQ(loras.entries()[0].lora->modules[0].weight, changed) << name;
    EXPECT_NE(loras.identity(changed.substr(0, changed.find('/'))), "");
    EXPECT_EQ(loras.identity("unet"), "");
  };
  expect_changes("te1", pair("lora_te1_" + flat, one, ".lora_down.weight", ".lora_up.weight"), one);
  expect_changes("te", pair("lora_te_" + flat, one, ".lora_down.weight", ".lora_up.weight"), one);
  expect_changes("te2", pair("lora_te2_" + flat, two, ".lora_down.weight", ".lora_up.weight"), two);
  expect_changes("peft",
                 pair("text_encoder_2.text_model.encoder.layers.0.mlp.fc1", two, ".lora_A.weight",
                      ".lora_B.weight"),
                 two);
  expect_changes(
      "peft-short",
      pair("text_encoder.encoder.layers.0.mlp.fc1", one, ".lora_A.weight", ".lora_B.weight"), one);
}

TEST_F(LoraTest, FilesAddUpAndIdentityNamesThem) {
  const Shape w = shape(kLinear);
  const Shape down{1, w[1]}, up{w[0], 1};
  const auto a = noise(down, 1), b = noise(up, 2), c = noise(down, 3), d = noise(up, 4);
  const std::string first = write("1", {{kLinearKohya + ".lora_down.weight", down, a},
                                        {kLinearKohya + ".lora_up.weight", up, b}});
  const std::string second = write("2", {{kLinearKohya + ".lora_down.weight", down, c},
                                         {kLinearKohya + ".lora_up.weight", up, d}});
  const std::vector<LoraSpec> specs = {{first, 0.25}, {second, -2}};
  const LoraWeights loras(base_, specs, {}, logger_);
  std::vector<float> want = sum(kLinear, a, b, 1, 0.25);
  const std::vector<float> more = sum(kLinear, c, d, 1, -2), base = read(*base_, kLinear);
  for (size_t i = 0; i < want.size(); ++i) want[i] += more[i] - base[i];
  expect_near(read(loras, kLinear), want);
  const std::string identity = loras.identity("unet");
  EXPECT_EQ(identity,
            loras.entries()[0].lora->hash + ":0.25," + loras.entries()[1].lora->hash + ":-2");
  EXPECT_NE(open(first, 0.5).identity("unet"), open(first, 0.25).identity("unet"));
}

TEST_F(LoraTest, MetadataGivesAlpha) {
  const Shape w = shape(kLinear);
  const std::string layer = kLinear.substr(5, kLinear.size() - 12);
  const Shape down{4, w[1]}, up{w[0], 4};
  const auto a = noise(down, 1), b = noise(up, 2);
  const std::vector<Entry> entries = {{"unet." + layer + ".lora_A.weight", down, a},
                                      {"unet." + layer + ".lora_B.weight", up, b}};
  const auto scale_with = [&](const std::string& json) {
    return open(write("m", entries, {{"lora_adapter_metadata", json}}))
        .entries()[0]
        .lora->modules[0]
        .scale;
  };
  EXPECT_EQ(scale_with(R"({"unet.r": 4, "unet.lora_alpha": 8})"), 2);
  EXPECT_EQ(scale_with(R"({"unet.lora_alpha": 8, "unet.use_rslora": true})"), 4);
  EXPECT_EQ(scale_with(R"({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_out.0": 2}})"),
            0.5);
  EXPECT_EQ(scale_with(R"({"text_encoder.lora_alpha": 8})"), 1);
}

TEST_F(LoraTest, DoraSetsTheNormOfRows) {
  const Shape w = shape(kLinear);
  const Shape down{2, w[1]}, up{w[0], 2};
  const auto a = noise(down, 1), b = noise(up, 2);
  std::vector<float> magnitude(static_cast<size_t>(w[0]));
  std::iota(magnitude.begin(), magnitude.end(), 1.0F);
  const fs::path file = write("dora", {{kLinearKohya + ".lora_down.weight", down, a},
                                       {kLinearKohya + ".lora_up.weight", up, b},
                                       {kLinearKohya + ".dora_scale", {w[0], 1}, magnitude}});
  std::vector<float> want = sum(kLinear, a, b, 2, 1);
  const size_t columns = want.size() / magnitude.size();
  for (size_t row = 0; row < magnitude.size(); ++row) {
    const auto begin = want.begin() + static_cast<std::ptrdiff_t>(row * columns);
    const auto end = begin + static_cast<std::ptrdiff_t>(columns);
    const float norm = std::sqrt(std::inner_product(begin, end, begin, 0.0F));
    for (auto it = begin; it != end; ++it) *it *= magnitude[row] / norm;
  }
  const auto got = read(open(file), kLinear);
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want[i], 1e-5F * (1 + std::abs(want[i])));
  const auto half = read(open(file, 0.5), kLinear), base = read(*base_, kLinear);
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(half[i], (base[i] + got[i]) / 2, 1e-5F);
}

struct Damage {
  std::string name;
  std::vector<Entry> entries;
  Errc code;
  std::string part;
  Metadata metadata{};
  double weight = 1;
};

TEST_F(LoraTest, DamagedFilesAreRefusedNamingTheKey) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const Shape w = shape(kLinear), k = shape(kConv);
  const std::string conv = "lora_unet_up_blocks_2_resnets_1_conv1";
  const Entry down{kLinearKohya + ".lora_down.weight", {2, w[1]}, {}};
  const Entry up{kLinearKohya + ".lora_up.weight", {w[0], 2}, {}};
  const auto named = [](Entry entry, const std::string& name) {
    entry.name = name;
    return entry;
  };
  const auto typed = [](Entry entry, DType dtype) {
    entry.dtype = dtype;
    return entry;
  };
  const auto alpha = [&](float value) { return Entry{kLinearKohya + ".alpha", {}, {value}}; };
  const std::string peft = "unet.conv_in.";
  const std::string text_key =
      "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k";
  const std::vector<Damage> table = {
      {"down without up", {down}, Errc::kCorruptFile, "has no up (B) matrix"},
      {"up without down", {up}, Errc::kCorruptFile, "has no down (A) matrix"},
      {"alpha alone", {alpha(1)}, Errc::kCorruptFile, "has no down"},
      {"rank mismatch", {down, {up.name, {w[0], 3}, {}}}, Errc::kCorruptFile, "ranks differ"},
      {"rank 0",
       {{down.name, {0, w[1]}, {}}, {up.name, {w[0], 0}, {}}},
       Errc::kCorruptFile,
       "rank 0"},
      {"vector", {{down.name, {w[1]}, {}}, up}, Errc::kCorruptFile, "wanted matrices"},
      {"alpha NaN", {down, up, alpha(kNaN)}, Errc::kCorruptFile, "alpha is nan"},
      {"alpha huge", {down, up, alpha(1e30F)}, Errc::kCorruptFile, "alpha is"},
      {"alpha of two",
       {down, up, {kLinearKohya + ".alpha", {2}, {1}}},
       Errc::kCorruptFile,
       "wanted one number"},
      {"nothing fits",
       {named(down, "lora_unet_elsewhere.lora_down.weight")},
       Errc::kUnsupported,
       "none of its 1 tensors belongs to this sdxl model"},
      {"LDM index out of range",
       {named(down, "lora_unet_input_blocks_99_1_proj_in.lora_down.weight")},
       Errc::kUnsupported,
       "input_blocks_99"},
      {"middle block 3",
       {named(down, "lora_unet_middle_block_3_proj_in.lora_down.weight")},
       Errc::kUnsupported,
       "middle_block_3"},
      {"wrong width",
       {{down.name, {2, w[1] + 1}, {}}, up},
       Errc::kUnsupported,
       "the layer's weight"},
      {"SD 1.x on SDXL",
       {{text_key + ".lora_down.weight", {2, 768}, {}},
        {text_key + ".lora_up.weight", {16, 2}, {}}},
       Errc::kUnsupported,
       "(SD 1.x), so it was made for another base model"},
      {"conv kernel mismatch",
       {{conv + ".lora_down.weight", {2, k[1], 5, 5}, {}},
        {conv + ".lora_up.weight", {k[0], 2, 1, 1}, {}}},
       Errc::kUnsupported,
       "the layer's weight"},
      {"kohya and PEFT",
       {down, up, {peft + "lora_A.weight", {1, 4, 3, 3}, {}}},
       Errc::kCorruptFile,
       "in one file"},
      {"two keys for one matrix",
       {down, up, {kLinearKohya + ".lora_A.weight", {2, w[1]}, {}}},
       Errc::kCorruptFile,
       "is the same as"},
      {"integers", {typed(down, DType::kI32), up}, Errc::kCorruptFile, "wanted floating point"},
      {"fp8 without scale", {typed(down, DType::kF8E4M3), up}, Errc::kUnsupported, "is 8-bit"},
      {"LoHa", {down, up, {"lora_unet_conv_in.hada_w1_a", {2, 2}, {}}}, Errc::kUnsupported, "LoHa"},
      {"LoKr", {{"lora_unet_conv_in.lokr_w1", {2, 2}, {}}}, Errc::kUnsupported, "LoKr"},
      {"whole difference",
       {{"lora_unet_conv_in.diff", {2, 2}, {}}},
       Errc::kUnsupported,
       "weight difference"},
      {"DoRA magnitude",
       {down, up, {kLinearKohya + ".dora_scale", {1, w[1] + 3}, {}}},
       Errc::kUnsupported,
       "DoRA magnitude"},
      {"no LoRA key", {{"something", {1}, {}}}, Errc::kUnsupported, "no LoRA key"},
      {"whole checkpoint",
       {{"model.diffusion_model.out.2.weight", {4, 2}, {}}},
       Errc::kUnsupported,
       "is a checkpoint, not a LoRA"},
      {"metadata not JSON",
       {down, up},
       Errc::kCorruptFile,
       "lora_adapter_metadata",
       {{"lora_adapter_metadata", "{r: 4"}}},
      {"weight NaN", {down, up}, Errc::kInvalidArgument, "weight is nan", {}, std::nan("")},
      {"weight -1e9", {down, up}, Errc::kInvalidArgument, "weight is -1000000000", {}, -1e9},
  };
  for (const Damage& row : table) {
    SCOPED_TRACE(row.name);
    try {
      static_cast<void>(open(write("damaged.safetensors", row.entries, row.metadata), row.weight));
      ADD_FAILURE() << "no error, wanted: " << row.part;
    } catch (const Error& e) {
      EXPECT_EQ(to_string(e.code()), to_string(row.code)) << e.what();
      EXPECT_NE(std::string(e.what()).find(row.part), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("damaged.safetensors"), std::string::npos) << e.what();
    }
  }
}

TEST_F(LoraTest, ValuesThatAreNotFiniteAreRefusedOnReading) {
  const Shape w = shape(kLinear);
  const LoraWeights loras = open(write(
      "inf",
      {{kLinearKohya + ".lora_down.weight", {1, w[1]}, {std::numeric_limits<float>::infinity()}},
       {kLinearKohya + ".lora_up.weight", {w[0], 1}, {}}}));
  try {
    static_cast<void>(read(loras, kLinear));
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(to_string(e.code()), to_string(Errc::kCorruptFile)) << e.what();
    EXPECT_NE(std::string(e.what()).find("not finite"), std::string::npos) << e.what();
  }
}

TEST_F(LoraTest, WarningsListWhatIsLeftOut) {
  const Shape w = shape(kLinear);
  const Entry down{kLinearKohya + ".lora_down.weight", {2, w[1]}, {}};
  const Entry up{kLinearKohya + ".lora_up.weight", {w[0], 2}, {}};
  struct Row {
    std::vector<Entry> more;
    std::string part;
  };
  const std::string ldm = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q";
  const std::vector<Row> table = {
      {{{"lora_unet_elsewhere.lora_down.weight", {1, 1}, {}}}, "lora_unet_elsewhere"},
      {{{"lora_te3_x.lora_down.weight", {1, 1}, {}}}, "lora_te3_x"},
      {{{kLinearKohya + ".alpha", {}, {0}}}, "adds nothing"},
      {{{ldm + ".lora_down.weight", {1, w[1]}, {}}, {ldm + ".lora_up.weight", {w[0], 1}, {}}},
       "1 LDM ones are left out"},
      {{{"lora_unet_conv_in.lora_down.weight", {99, 4, 3, 3}, {}},
        {"lora_unet_conv_in.lora_up.weight", {16, 99, 1, 1}, {}}},
       "has rank 99"},
  };
  for (const Row& row : table) {
    log_.clear();
    std::vector<Entry> entries = {down, up};
    entries.insert(entries.end(), row.more.begin(), row.more.end());
    static_cast<void>(open(write("warned", entries)));
    EXPECT_NE(log_.find(row.part), std::string::npos) << log_ << "\nwanted: " << row.part;
  }
  log_.clear();
  const std::string twice = write("twice", {down, up}).string();
  const std::vector<LoraSpec> specs = {{twice, 1}, {twice, 1}};
  static_cast<void>(LoraWeights(base_, specs, {}, logger_));
  EXPECT_NE(log_.find("given twice"), std::string::npos) << log_;
}

TEST_F(LoraTest, FoldersAndMissingFiles) {
  const Shape w = shape(kLinear);
  const std::vector<Entry> entries = {{kLinearKohya + ".lora_down.weight", {2, w[1]}, {}},
                                      {kLinearKohya + ".lora_up.weight", {w[0], 2}, {}}};
  fs::create_directories(folder_ / "one");
  write("one/any.safetensors", entries);
  EXPECT_EQ(open(folder_ / "one").entries()[0].lora->file.file().path().filename(),
            "any.safetensors");
  write("one/other.safetensors", entries);
  EXPECT_THROW(open(folder_ / "one"), Error);
  write("one/pytorch_lora_weights.safetensors", entries);
  EXPECT_EQ(open(folder_ / "one").entries()[0].lora->file.file().path().filename(),
            "pytorch_lora_weights.safetensors");
  for (const char* missing : {"absent.safetensors", "one/absent.safetensors"}) {
    try {
      static_cast<void>(open(folder_ / missing));
      ADD_FAILURE() << missing;
    } catch (const Error& e) {
      EXPECT_EQ(to_string(e.code()), to_string(Errc::kNotFound)) << e.what();
    }
  }
}

TEST_F(LoraTest, ManyKeysThatFitNothingAreListedShortly) {
  std::vector<Entry> entries;
  const Shape w = shape(kLinear);
  entries.push_back({kLinearKohya + ".lora_down.weight", {1, w[1]}, {}});
  entries.push_back({kLinearKohya + ".lora_up.weight", {w[0], 1}, {}});
  for (int i = 0; i < 100'000; ++i) {
    entries.push_back({"lora_unet_x" + std::to_string(i) + ".alpha", {}, {1}});
  }
  // Written by hand: the writer above is quadratic in the number of tensors.
  std::string header = "{";
  uint64_t offset = 0;
  for (const Entry& entry : entries) {
    const auto size = static_cast<uint64_t>(entry.shape.num_elements()) * 4;
    header += (header.size() > 1 ? ",\"" : "\"") + entry.name + R"(":{"dtype":"F32","shape":)" +
              to_string(entry.shape) + R"(,"data_offsets":[)" + std::to_string(offset) + "," +
              std::to_string(offset + size) + "]}";
    offset += size;
  }
  header += "}";
  while (header.size() % 8 != 0) header += " ";
  std::string bytes(8, '\0');
  for (size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  write_file_atomically(folder_ / "many", bytes + header + std::string(offset, '\0'));
  const LoraWeights loras = open(folder_ / "many");
  EXPECT_EQ(loras.entries()[0].lora->modules.size(), 1U);
  EXPECT_NE(log_.find("100000 tensors belong to no layer"), std::string::npos);
  EXPECT_LT(log_.size(), 5000U);
}

}  // namespace
}  // namespace halftone::io
