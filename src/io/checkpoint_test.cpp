// The layouts against the golden checkpoints, and every row of damaged folders.
#include "io/checkpoint.h"

#include <fstream>
#include <functional>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "base/folder.h"
#include "io/name_maps/name_maps.h"

namespace halftone::io {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(HALFTONE_SOURCE_DIR) / "tests" / "golden";

std::vector<float> values(const Checkpoint& checkpoint, const std::string& name) {
  const TensorType type{DType::kF32, checkpoint.type(name).shape};
  std::vector<float> out(static_cast<size_t>(type.shape.num_elements()));
  checkpoint.read(name, type, std::as_writable_bytes(std::span(out)).data());
  return out;
}

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    logger_ = [this](LogLevel, std::string_view, std::string_view text) { log_ += text; };
  }
  // A copy of a golden model that a case may damage.
  fs::path copy(const std::string& model) {
    fs::remove_all(folder_ / model);
    fs::copy(kGolden / model, folder_ / model, fs::copy_options::recursive);
    fs::remove_all(folder_ / model / "golden");
    return folder_ / model;
  }
  static void put(const fs::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  static void edit(const fs::path& path, const std::string& from, const std::string& to) {
    std::string text = read_text_file(path);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    put(path, text.replace(at, from.size(), to));
  }
  static void expect_error(const std::function<void()>& action, Errc code,
                           const std::string& substring) {
    try {
      action();
      ADD_FAILURE() << "no error, wanted: " << substring;
    } catch (const Error& e) {
      EXPECT_EQ(to_string(e.code()), to_string(code)) << e.what();
      EXPECT_NE(std::string(e.what()).find(substring), std::string::npos)
          << e.what() << "\nwanted: " << substring;
    }
  }
  TemporaryFolder temporary_;
  fs::path folder_ = temporary_.path();
  std::string log_;
  Logger logger_;
};

TEST_F(CheckpointTest, ReadsDiffusersFolder) {
  const auto model = Checkpoint::open((kGolden / "tiny-sdxl").string());
  EXPECT_EQ(model->family(), "sdxl");
  EXPECT_EQ(model->layout(), "diffusers");
  EXPECT_EQ(model->config("unet").at("cross_attention_dim").integer(), 56);
  EXPECT_EQ(model->scheduler_config().at("_class_name").string(), "EulerDiscreteScheduler");
  EXPECT_TRUE(model->model_index().at("force_zeros_for_empty_prompt").boolean());
  EXPECT_EQ(model->type("unet/conv_in.weight"), (TensorType{DType::kF16, Shape({16, 4, 3, 3})}));
  EXPECT_FALSE(model->tokenizer("tokenizer").vocab_json.empty());
  EXPECT_FALSE(model->tokenizer("tokenizer_2").merges_txt.empty());
  const auto components = model->components();
  ASSERT_EQ(components.size(), 4U);
  EXPECT_EQ(components[2].name, "unet");
  EXPECT_EQ(components[2].num_tensors, 618U);
  EXPECT_EQ(components[2].files,
            std::vector<std::string>{"unet/diffusion_pytorch_model.safetensors"});
  EXPECT_EQ(components[2].bytes, 2 * components[2].num_parameters);
  EXPECT_TRUE(model->warnings().empty());
  expect_error([&] { (void)model->type("unet/nothing"); }, Errc::kNotFound, "'unet/nothing'");
  std::vector<std::byte> out(100000);
  expect_error(
      [&] {
        model->read("unet/conv_in.weight", {DType::kF32, Shape({16, 4, 9})}, out.data());
      },
      Errc::kCorruptFile, "got shape [16,4,3,3], wanted [16,4,9]");
  EXPECT_NO_THROW(model->check_unchanged());
}

TEST_F(CheckpointTest, TextEncoderPrefixIsOptional) {
  const auto with = Checkpoint::open((kGolden / "tiny-sdxl").string());
  const auto without = Checkpoint::open((kGolden / "tiny-sd15").string());
  EXPECT_EQ(without->family(), "sd15");
  const std::string name = "text_encoder/text_model.encoder.layers.0.mlp.fc1.weight";
  EXPECT_TRUE(with->contains(name));
  EXPECT_TRUE(without->contains(name));
  EXPECT_EQ(with->tensor_names("text_encoder").size(),
            without->tensor_names("text_encoder").size());
}

TEST_F(CheckpointTest, SingleFileEqualsTheFolderBitForBit) {
  const auto folder = Checkpoint::open((kGolden / "tiny-sdxl").string());
  const auto single =
      Checkpoint::open((kGolden / "tiny-sdxl-single" / "tiny_sdxl.safetensors").string(),
                       {.config_folder = kGolden / "tiny-sdxl", .logger = logger_});
  EXPECT_EQ(single->family(), "sdxl");
  EXPECT_EQ(log_, "");  // no name left over
  size_t compared = 0;
  for (const std::string component : {"text_encoder", "text_encoder_2", "unet", "vae"}) {
    ASSERT_EQ(single->tensor_names(component), folder->tensor_names(component));
    for (const std::string& name : folder->tensor_names(component)) {
      const std::string full = component + "/" + name;
      ASSERT_EQ(single->type(full), folder->type(full)) << full;
      EXPECT_EQ(values(*single, full), values(*folder, full)) << full;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 52U + 165U + 618U + 244U);
  EXPECT_FALSE(single->tokenizer("tokenizer_2").vocab_json.empty());
  EXPECT_EQ(single->structure_hash(), folder->structure_hash());
}

TEST_F(CheckpointTest, SingleFileWithoutConfigsTakesTheReleasedOnes) {
  const auto single =
      Checkpoint::open((kGolden / "tiny-sdxl-single" / "tiny_sdxl.safetensors").string());
  EXPECT_EQ(single->config("unet").at("cross_attention_dim").integer(), 2048);
  EXPECT_EQ(single->scheduler_config().at("timestep_spacing").string(), "leading");
  expect_error([&] { (void)single->tokenizer("tokenizer"); }, Errc::kNotFound,
               "a single file holds no tokenizer");
  const fs::path vocab = kGolden / "tokenizer" / "small";
  const auto with_vocab = Checkpoint::open(
      (kGolden / "tiny-sdxl-single" / "tiny_sdxl.safetensors").string(), {.clip_vocab = vocab});
  EXPECT_NE(
      with_vocab->tokenizer("tokenizer_2").special_tokens_map_json.find(R"("pad_token": "!")"),
      std::string::npos);
}

TEST_F(CheckpointTest, ShardsAndComponentFolders) {
  OpenOptions options;
  options.component_folders["unet"] = kGolden / "tiny-sd15-sharded-unet" / "unet";
  const auto sharded = Checkpoint::open((kGolden / "tiny-sd15").string(), options);
  const auto whole = Checkpoint::open((kGolden / "tiny-sd15").string());
  ASSERT_EQ(sharded->tensor_names("unet"), whole->tensor_names("unet"));
  for (const std::string& name : whole->tensor_names("unet")) {
    EXPECT_EQ(values(*sharded, "unet/" + name), values(*whole, "unet/" + name)) << name;
  }
  EXPECT_EQ(sharded->components()[1].files.size(), 2U);
  EXPECT_EQ(sharded->structure_hash(), whole->structure_hash());
}

TEST_F(CheckpointTest, OldVaeAttentionNames) {
  const fs::path model = copy("tiny-sd15");
  const fs::path path = model / "vae" / "diffusion_pytorch_model.safetensors";
  const auto modern = Checkpoint::open((kGolden / "tiny-sd15").string());
  {
    const SafetensorsFile file(path);
    std::vector<NamedType> types;
    std::vector<std::vector<std::byte>> data;
    for (const SafetensorsEntry& entry : file.header().tensors) {
      std::string name = entry.name;
      Shape shape = entry.shape;
      for (const auto& [now, old] :
           std::map<std::string, std::string>{{".to_q.", ".query."},
                                              {".to_k.", ".key."},
                                              {".to_v.", ".value."},
                                              {".to_out.0.", ".proj_attn."}}) {
        if (const size_t at = name.find(now); at != std::string::npos) {
          name.replace(at, now.size(), old);
          if (shape.rank() == 2) shape = Shape({shape[0], shape[1], 1, 1});
        }
      }
      types.push_back({name, {*entry.dtype, shape}});
      data.emplace_back(entry.end - entry.begin);
      file.read(entry, 0, static_cast<uint64_t>(shape.num_elements()), *entry.dtype,
                data.back().data());
    }
    SafetensorsWriter writer(path, types);
    for (size_t i = 0; i < types.size(); ++i) writer.write(i, 0, data[i]);
    writer.commit();
  }
  const auto old = Checkpoint::open(model.string());
  ASSERT_EQ(old->tensor_names("vae"), modern->tensor_names("vae"));
  EXPECT_EQ(old->structure_hash(), modern->structure_hash());
}

TEST_F(CheckpointTest, VariantRule) {
  const fs::path model = copy("tiny-sd15");
  const fs::path vae = model / "vae";
  fs::copy(vae / "diffusion_pytorch_model.safetensors",
           vae / "diffusion_pytorch_model.fp16.safetensors");
  const auto file_of = [](const Checkpoint& c) { return c.components()[2].files.at(0); };
  EXPECT_EQ(file_of(*Checkpoint::open(model.string())), "vae/diffusion_pytorch_model.safetensors");
  const auto fp16 = Checkpoint::open(model.string(), {.variant = "fp16", .logger = logger_});
  EXPECT_EQ(file_of(*fp16), "vae/diffusion_pytorch_model.fp16.safetensors");
  EXPECT_NE(log_.find("no fp16 weights, using diffusion_pytorch_model.safetensors"),
            std::string::npos);
  fs::remove(vae / "diffusion_pytorch_model.safetensors");
  log_.clear();
  const auto only = Checkpoint::open(model.string(), {.logger = logger_});
  EXPECT_EQ(file_of(*only), "vae/diffusion_pytorch_model.fp16.safetensors");
  EXPECT_NE(log_.find("no plain weights"), std::string::npos);
}

// Rows of damaged model folders.
struct BadFolder {
  std::string name;
  std::function<void(const fs::path&)> damage;
  Errc code;
  std::string substring;
};

TEST_F(CheckpointTest, DamagedFoldersSayWhatIsWrong) {
  const auto set = [](const char* file, const char* text) {
    return [=](const fs::path& m) { put(m / file, text); };
  };
  const auto replace = [](const char* file, const char* from, const char* to) {
    return [=](const fs::path& m) { edit(m / file, from, to); };
  };
  const auto remove = [](const char* file) {
    return [=](const fs::path& m) { fs::remove_all(m / file); };
  };
  const char* kIndex = "model_index.json";
  const std::vector<BadFolder> rows = {
      {"no model_index", remove(kIndex), Errc::kNotFound, "no model_index.json"},
      {"model_index empty", set(kIndex, ""), Errc::kCorruptFile, "model_index.json: invalid JSON"},
      {"model_index array", set(kIndex, "[]"), Errc::kCorruptFile, "got array, wanted object"},
      {"no class", set(kIndex, "{}"), Errc::kCorruptFile, "key '_class_name' is missing"},
      {"class number", set(kIndex, R"({"_class_name": 1})"), Errc::kCorruptFile,
       "key '_class_name': got integer, wanted string"},
      {"unknown class", replace(kIndex, "StableDiffusionPipeline", "KandinskyPipeline"),
       Errc::kUnsupported, "got 'KandinskyPipeline'"},
      {"unknown component class", replace(kIndex, "UNet2DConditionModel", "UNet3D"),
       Errc::kUnsupported, "key 'unet': got class 'UNet3D'"},
      {"component null", replace(kIndex, "\"diffusers\",\n    \"AutoencoderKL\"", "null, null"),
       Errc::kCorruptFile, "component 'vae' is absent"},
      {"component string",
       replace(kIndex, "[\n    \"diffusers\",\n    \"AutoencoderKL\"\n  ]", "\"vae\""),
       Errc::kCorruptFile, "key 'vae': got string, wanted array"},
      {"component of 3 items", replace(kIndex, "\"AutoencoderKL\"", "\"AutoencoderKL\", \"x\""),
       Errc::kCorruptFile, "got 3 items, wanted [library, class]"},
      {"component folder absent", remove("vae"), Errc::kNotFound, "vae/config.json"},
      {"config absent", remove("unet/config.json"), Errc::kNotFound, "unet/config.json"},
      {"config no object", set("unet/config.json", "3"), Errc::kCorruptFile,
       "config.json: got integer, wanted object"},
      {"config a folder",
       [](const fs::path& m) {
         fs::remove(m / "unet/config.json");
         fs::create_directory(m / "unet/config.json");
       },
       Errc::kCorruptFile, "is a folder, wanted a regular file"},
      {"config duplicate key", set("unet/config.json", R"({"a": 1, "a": 2})"), Errc::kCorruptFile,
       "duplicate key 'a'"},
      {"config too deep",
       [](const fs::path& m) { put(m / "unet/config.json", std::string(1000, '[')); },
       Errc::kCorruptFile, "deeper than 64"},
      {"weights absent", remove("unet/diffusion_pytorch_model.safetensors"), Errc::kNotFound,
       "no diffusion_pytorch_model.safetensors"},
      {"only .bin",
       [](const fs::path& m) {
         fs::rename(m / "unet/diffusion_pytorch_model.safetensors",
                    m / "unet/diffusion_pytorch_model.bin");
       },
       Errc::kUnsupported, "torch pickle"},
      {"weights truncated",
       [](const fs::path& m) {
         fs::resize_file(m / "unet/diffusion_pytorch_model.safetensors", 100000);
       },
       Errc::kCorruptFile, "past the"},
      {"weights a link outside",
       [](const fs::path& m) {
         const fs::path file = m / "unet/diffusion_pytorch_model.safetensors";
         fs::rename(file, m.parent_path() / "elsewhere.safetensors");
         fs::create_symlink(m.parent_path() / "elsewhere.safetensors", file);
       },
       Errc::kCorruptFile, "outside of"},
      {"weights a dangling link",
       [](const fs::path& m) {
         fs::remove(m / "vae/diffusion_pytorch_model.safetensors");
         fs::create_symlink("gone", m / "vae/diffusion_pytorch_model.safetensors");
       },
       Errc::kNotFound, "cannot open"},
      {"scheduler absent", remove("scheduler"), Errc::kNotFound, "scheduler_config.json"},
      {"tokenizer absent", remove("tokenizer"), Errc::kNotFound, "lists 'tokenizer'"},
      {"merges absent", remove("tokenizer/merges.txt"), Errc::kNotFound, "merges.txt"},
  };
  for (const BadFolder& row : rows) {
    SCOPED_TRACE(row.name);
    const fs::path model = copy("tiny-sd15");
    EXPECT_NO_THROW((void)Checkpoint::open(model.string()));
    row.damage(model);
    expect_error([&] { (void)Checkpoint::open(model.string()); }, row.code, row.substring);
  }
}

TEST_F(CheckpointTest, DamagedShardsSayWhatIsWrong) {
  const char* kIndex = "diffusion_pytorch_model.safetensors.index.json";
  const char* kFirst = "diffusion_pytorch_model-00001-of-00002.safetensors";
  const char* kSecond = "diffusion_pytorch_model-00002-of-00002.safetensors";
  const auto map = [=](const std::string& shard) {
    return [=](const fs::path& m) {
      put(m / kIndex, R"({"weight_map": {"conv_in.bias": ")" + shard + "\"}}");
    };
  };
  const std::vector<BadFolder> rows = {
      {"index not JSON", [=](const fs::path& m) { put(m / kIndex, "<html>"); }, Errc::kCorruptFile,
       "invalid JSON"},
      {"weight_map missing", [=](const fs::path& m) { put(m / kIndex, "{}"); }, Errc::kCorruptFile,
       "key 'weight_map' is missing"},
      {"weight_map array", [=](const fs::path& m) { put(m / kIndex, R"({"weight_map": []})"); },
       Errc::kCorruptFile, "got array, wanted object"},
      {"shard a number", [=](const fs::path& m) { put(m / kIndex, R"({"weight_map": {"a": 1}})"); },
       Errc::kCorruptFile, "got integer, wanted string"},
      {"shard missing", [=](const fs::path& m) { fs::remove(m / kSecond); }, Errc::kNotFound,
       "00002"},
      {"shard absolute", map("/etc/passwd.safetensors"), Errc::kCorruptFile,
       "'/etc/passwd.safetensors'"},
      {"shard ..", map("../x.safetensors"), Errc::kCorruptFile, "'../x.safetensors'"},
      {"shard is the index", map(kIndex), Errc::kCorruptFile, "wanted the name of a .safetensors"},
      {"shard links outside",
       [=](const fs::path& m) {
         fs::rename(m / kFirst, m.parent_path() / "out.safetensors");
         fs::create_symlink(m.parent_path() / "out.safetensors", m / kFirst);
       },
       Errc::kCorruptFile, "outside of"},
      {"tensor absent from its shard",
       [=](const fs::path& m) { edit(m / kIndex, "\"conv_in.bias\"", "\"conv_in.nothing\""); },
       Errc::kCorruptFile, "tensor 'conv_in.nothing' is not in"},
      {"tensor in the other shard",
       [=](const fs::path& m) {
         const std::string text = read_text_file(m / kIndex);
         const size_t at = text.find("\"conv_in.bias\"");
         const bool is_first =
             text.compare(text.find(':', at) + 3, 29, "diffusion_pytorch_model-00001") == 0;
         edit(m / kIndex, std::string("\"conv_in.bias\": \"") + (is_first ? kFirst : kSecond),
              std::string("\"conv_in.bias\": \"") + (is_first ? kSecond : kFirst));
       },
       Errc::kCorruptFile, "tensor 'conv_in.bias' is"},
      {"10^5 shards",
       [=](const fs::path& m) {
         std::string text = R"({"weight_map": {"x": "x.safetensors")";
         for (int i = 0; i < 100000; ++i) {
           text += ",\"" + std::to_string(i) + "\":\"" + std::to_string(i) + ".safetensors\"";
         }
         put(m / kIndex, text + "}}");
       },
       Errc::kCorruptFile, "the limit is 1000"},
  };
  for (const BadFolder& row : rows) {
    SCOPED_TRACE(row.name);
    const fs::path unet = copy("tiny-sd15-sharded-unet") / "unet";
    OpenOptions options;
    options.component_folders["unet"] = unet;
    row.damage(unet);
    expect_error([&] { (void)Checkpoint::open((kGolden / "tiny-sd15").string(), options); },
                 row.code, row.substring);
  }
}

TEST_F(CheckpointTest, HarmlessShardMistakesAreWarnings) {
  const fs::path unet = copy("tiny-sd15-sharded-unet") / "unet";
  const auto index = unet / "diffusion_pytorch_model.safetensors.index.json";
  fs::copy(kGolden / "tiny-sd15/unet/diffusion_pytorch_model.safetensors", unet);
  fs::copy(unet / "diffusion_pytorch_model-00001-of-00002.safetensors",
           unet / "diffusion_pytorch_model-00003-of-00003.safetensors");
  edit(index, "\"total_size\": ", "\"total_size\": 1");
  const auto model = Checkpoint::open((kGolden / "tiny-sd15").string(),
                                      {.component_folders = {{"unet", unet}}, .logger = logger_});
  EXPECT_NE(log_.find("using the index"), std::string::npos) << log_;
  EXPECT_NE(log_.find("metadata.total_size"), std::string::npos) << log_;
  EXPECT_NE(log_.find("not named by the index"), std::string::npos) << log_;
}

// A single file that holds one tensor of four bytes per name.
std::string fake_file(const fs::path& path,
                      const std::vector<std::pair<std::string, Shape>>& tensors) {
  std::vector<NamedType> types;
  for (const auto& [name, shape] : tensors) types.push_back({name, {DType::kU8, shape}});
  SafetensorsWriter writer(path, types);
  for (size_t i = 0; i < types.size(); ++i) {
    writer.write(i, 0, std::vector<std::byte>(types[i].type.num_bytes()));
  }
  writer.commit();
  return path.string();
}

TEST_F(CheckpointTest, SingleFilesOfOtherKindsAreRefusedByName) {
  const std::string conv_in = "model.diffusion_model.input_blocks.0.0.weight";
  const std::string sdxl = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias";
  const std::string sd15 =
      "cond_stage_model.transformer.text_model.encoder.layers.0.layer_norm1.weight";
  struct Row {
    std::vector<std::pair<std::string, Shape>> tensors;
    std::string substring;
  };
  const std::vector<Row> rows = {
      {{}, "no known layout among its 0 tensors"},
      {{{"lora_unet_x.lora_down.weight", Shape({1})}}, "no known layout among its 1 tensors"},
      {{{"conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias", Shape({1})}},
       "SDXL refiner"},
      {{{"model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias", Shape({1})}},
       "Stable Diffusion 3"},
      {{{"double_blocks.0.img_attn.norm.key_norm.scale", Shape({1})}}, "FLUX"},
      {{{sdxl, Shape({1})}, {sd15, Shape({1})}}, "marks of sdxl and of sd15"},
      {{{sdxl, Shape({1})}}, "has no UNet"},
      {{{sd15, Shape({1})}, {conv_in, Shape({1, 9, 1, 1})}}, "9 channels (inpainting?)"},
  };
  for (const auto& [tensors, substring] : rows) {
    const std::string path = fake_file(folder_ / "x.safetensors", tensors);
    expect_error([&] { (void)Checkpoint::open(path); }, Errc::kUnsupported, substring);
  }
  const std::string odd =
      "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight";
  const std::string path =
      fake_file(folder_ / "x.safetensors",
                {{sdxl, Shape({1})}, {conv_in, Shape({1, 4, 1, 1})}, {odd, Shape({4, 1})}});
  expect_error([&] { (void)Checkpoint::open(path); }, Errc::kCorruptFile, "cannot be split in 3");
}

TEST_F(CheckpointTest, NameMapsOfTheReleasedLayouts) {
  const auto mapped = [](std::string_view stored) -> std::string {
    for (const NameMap* map : name_maps()) {
      if (const auto out = map->map(stored, {})) {
        return out->empty() ? "-" : out->front().component + "/" + out->front().name;
      }
    }
    return "?";
  };
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"model.diffusion_model.input_blocks.4.1.transformer_blocks.1.ff.net.2.bias",
       "unet/down_blocks.1.attentions.0.transformer_blocks.1.ff.net.2.bias"},
      {"model.diffusion_model.input_blocks.3.0.op.weight",
       "unet/down_blocks.0.downsamplers.0.conv.weight"},
      {"model.diffusion_model.output_blocks.2.2.conv.bias",
       "unet/up_blocks.0.upsamplers.0.conv.bias"},
      {"model.diffusion_model.output_blocks.2.1.conv.bias",
       "unet/up_blocks.0.upsamplers.0.conv.bias"},
      {"model.diffusion_model.output_blocks.8.0.skip_connection.weight",
       "unet/up_blocks.2.resnets.2.conv_shortcut.weight"},
      {"model.diffusion_model.middle_block.2.out_layers.3.weight",
       "unet/mid_block.resnets.1.conv2.weight"},
      {"model.diffusion_model.label_emb.0.2.weight", "unet/add_embedding.linear_2.weight"},
      {"first_stage_model.decoder.up.0.block.2.nin_shortcut.bias",
       "vae/decoder.up_blocks.3.resnets.2.conv_shortcut.bias"},
      {"vae.decoder.up.3.upsample.conv.bias", "vae/decoder.up_blocks.0.upsamplers.0.conv.bias"},
      {"first_stage_model.encoder.mid.attn_1.proj_out.weight",
       "vae/encoder.mid_block.attentions.0.to_out.0.weight"},
      {"first_stage_model.encoder.mid.block_2.norm1.weight",
       "vae/encoder.mid_block.resnets.1.norm1.weight"},
      {"cond_stage_model.transformer.text_model.final_layer_norm.bias",
       "text_encoder/text_model.final_layer_norm.bias"},
      {"conditioner.embedders.1.model.logit_scale", "-"},
      {"model_ema.decay", "?"},
      {"model.diffusion_model.input_blocks.x.0.in_layers.0.bias", "?"},
      {"model.diffusion_model.input_blocks.99999.0.in_layers.0.bias", "?"},
      {"model.diffusion_model.input_blocks", "?"},
      {"first_stage_model.decoder.up.4.block.0.conv1.bias", "?"},
      {"", "?"},
  };
  for (const auto& [stored, wanted] : rows) EXPECT_EQ(mapped(stored), wanted) << stored;
}

class HfCacheTest : public CheckpointTest {
 protected:
  // models--org--tiny with links into blobs, as the hub client lays it out.
  void SetUp() override {
    CheckpointTest::SetUp();
    model_ = folder_ / "hub" / "models--org--tiny";
    const fs::path snapshot = model_ / "snapshots" / "abc123";
    fs::create_directories(model_ / "blobs");
    fs::create_directories(model_ / "refs");
    put(model_ / "refs" / "main", "abc123");
    int n = 0;
    for (const auto& entry : fs::recursive_directory_iterator(kGolden / "tiny-sd15")) {
      const fs::path relative = entry.path().lexically_relative(kGolden / "tiny-sd15");
      if (entry.is_directory()) {
        fs::create_directories(snapshot / relative);
        continue;
      }
      const fs::path blob = model_ / "blobs" / std::to_string(n++);
      fs::create_directories((snapshot / relative).parent_path());
      fs::copy(entry.path(), blob);
      fs::create_symlink(blob.lexically_relative((snapshot / relative).parent_path()),
                         snapshot / relative);
    }
    options_.hf_cache.hf_home = folder_.string();
  }
  fs::path model_;
  OpenOptions options_;
};

TEST_F(HfCacheTest, ResolvesIdsThroughReferences) {
  EXPECT_EQ(Checkpoint::open("org/tiny", options_)->family(), "sd15");
  EXPECT_EQ(Checkpoint::open("org/tiny@abc123", options_)->family(), "sd15");
  EXPECT_EQ(Checkpoint::open((model_ / "snapshots" / "abc123").string())->family(), "sd15");
}

TEST_F(HfCacheTest, WhatIsMissingComesWithTheCommand) {
  const std::string command = "hf download org/tiny --include '*.json' '*.txt' '*.safetensors'";
  expect_error([&] { (void)Checkpoint::open("org/other", options_); }, Errc::kNotFound,
               "hf download org/other --include");
  expect_error([&] { (void)Checkpoint::open("org/tiny@v2", options_); }, Errc::kNotFound,
               "hf download org/tiny --revision v2");
  fs::remove(fs::canonical(model_ / "snapshots/abc123/unet/diffusion_pytorch_model.safetensors"));
  expect_error([&] { (void)Checkpoint::open("org/tiny", options_); }, Errc::kNotFound, command);
  fs::remove(model_ / "snapshots/abc123/unet/diffusion_pytorch_model.safetensors");
  expect_error([&] { (void)Checkpoint::open("org/tiny", options_); }, Errc::kNotFound, command);
  put(model_ / "refs/main", "fff");
  expect_error([&] { (void)Checkpoint::open("org/tiny", options_); }, Errc::kNotFound, command);
  for (const char* bad : {"", "../../../etc", "a/b"}) {
    put(model_ / "refs/main", bad);
    expect_error([&] { (void)Checkpoint::open("org/tiny", options_); }, Errc::kCorruptFile,
                 "wanted a commit hash");
  }
  expect_error([&] { (void)Checkpoint::open("org/tiny", {}); }, Errc::kNotFound, "hf download");
  expect_error([&] { (void)Checkpoint::open("./no/such/path", options_); }, Errc::kNotFound,
               "no such file or folder");
}

TEST_F(HfCacheTest, LinksOutOfTheCacheAreRefused) {
  const fs::path link = model_ / "snapshots/abc123/unet/config.json";
  fs::remove(link);
  put(folder_ / "outside.json", "{}");
  fs::create_symlink(folder_ / "outside.json", link);
  expect_error([&] { (void)Checkpoint::open("org/tiny", options_); }, Errc::kCorruptFile,
               "outside of");
}

TEST(HfCacheLocationsTest, OrderOfVariables) {
  EXPECT_EQ((HfCacheLocations{"/a", "/b", "/c", "/d"}).root(), "/a");
  EXPECT_EQ((HfCacheLocations{"", "/b", "/c", "/d"}).root(), "/b/hub");
  EXPECT_EQ((HfCacheLocations{"", "", "/c", "/d"}).root(), "/c/huggingface/hub");
  EXPECT_EQ((HfCacheLocations{"", "", "", "/d"}).root(), "/d/.cache/huggingface/hub");
  EXPECT_EQ(HfCacheLocations{}.root(), "");
  for (const char* good : {"a/b", "stabilityai/sdxl-turbo", "a/b@refs/pr/1", "a/b@main"}) {
    EXPECT_TRUE(is_model_id(good)) << good;
  }
  for (const char* bad :
       {"a", "a/b/c", "../b", "a/..", "/a/b", "a/b@", "a/b@../x", "a b/c", "a/-b"}) {
    EXPECT_FALSE(is_model_id(bad)) << bad;
  }
}

TEST_F(CheckpointTest, ContentHashFollowsTheBytesNotThePath) {
  const fs::path model = copy("tiny-sd15");
  const fs::path cache = folder_ / "cache";
  const std::string original = Checkpoint::open((kGolden / "tiny-sd15").string())->content_hash();
  EXPECT_EQ(original.size(), 64U);
  EXPECT_EQ(Checkpoint::open(model.string(), {.hash_cache = cache})->content_hash(), original);
  EXPECT_EQ(list_folder(cache).size(), 3U);
  EXPECT_EQ(Checkpoint::open(model.string(), {.hash_cache = cache})->content_hash(), original);
  // One flipped bit of a weight: another hash, although structure and size are the same.
  const fs::path file = model / "vae" / "diffusion_pytorch_model.safetensors";
  std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekg(-1, std::ios::end);
  const char last = static_cast<char>(stream.get() ^ 1);
  stream.seekp(-1, std::ios::end);
  stream.put(last);
  stream.close();
  const auto changed = Checkpoint::open(model.string(), {.hash_cache = cache});
  EXPECT_NE(changed->content_hash(), original);
  EXPECT_EQ(changed->structure_hash(),
            Checkpoint::open((kGolden / "tiny-sd15").string())->structure_hash());
  // A damaged memory is no harm.
  for (const std::string& name : list_folder(cache)) put(cache / name, "junk");
  EXPECT_EQ(Checkpoint::open(model.string(), {.hash_cache = cache})->content_hash(),
            changed->content_hash());
  // Nor is a cache that cannot be written.
  put(folder_ / "blocked", "");
  EXPECT_EQ(Checkpoint::open(model.string(), {.hash_cache = folder_ / "blocked", .logger = logger_})
                ->content_hash(),
            changed->content_hash());
  EXPECT_NE(log_.find("cannot remember a hash"), std::string::npos);
}

}  // namespace
}  // namespace halftone::io
