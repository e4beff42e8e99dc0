// Whole runs on a device with side streams whose work runs as late, or as early, as its joins
// allow: what the joins leave open then shows in the picture.
#include <array>
#include <cstring>
#include <functional>
#include <utility>

#include <gtest/gtest.h>

#include "backend/cpu/cpu_device.h"
#include "workflow/generator.h"

namespace halftone::workflow {
namespace {

enum class Policy : uint8_t {
  kAtOnce,     // everything runs when it is enqueued
  kSideLate,   // side streams run when somebody waits for them
  kSideEarly,  // the common order runs when somebody waits for it
};

// Work of one stream in its order; an item may wait for the first `count` items of another queue.
struct Queue {
  struct Item {
    std::function<void()> run;
    Queue* other = nullptr;
    size_t count = 0;
  };
  bool is_side = false;
  std::vector<Item> items;
  size_t done = 0;

  void advance(size_t count) {
    while (done < count) {
      Item item = std::exchange(items[done], {});
      ++done;
      if (item.other != nullptr) item.other->advance(item.count);
      if (item.run) item.run();
    }
  }
  void drain() { advance(items.size()); }
};

struct World {
  Policy policy = Policy::kAtOnce;
  std::unique_ptr<backend::Device> cpu =
      backend::cpu::create_cpu_device({.threads = 1, .disabled_features = {}});
  std::unique_ptr<backend::Stream> cpu_stream = cpu->create_stream();
  Queue common;
  std::vector<std::unique_ptr<Queue>> sides;
  std::vector<std::shared_ptr<backend::Buffer>> freed;  // kept, for what comes too late

  void push(Queue& queue, Queue::Item item) const {
    queue.items.push_back(std::move(item));
    const bool at_once =
        policy == Policy::kAtOnce || queue.is_side == (policy == Policy::kSideEarly);
    if (at_once) queue.drain();
  }
  void drain() {
    common.drain();
    for (const auto& side : sides) side->drain();
  }
};

class QueueStream final : public backend::Stream {
 public:
  QueueStream(World& world, Queue& queue) : world_(world), queue_(queue) {}
  void synchronize() override { queue_.drain(); }
  void mark(size_t) override {}
  [[nodiscard]] double ms_between(size_t, size_t) const override { return 1; }
  void wait_for(backend::Stream& other) override {
    Queue& queue = static_cast<QueueStream&>(other).queue_;
    world_.push(queue_, {.run = {}, .other = &queue, .count = queue.items.size()});
  }
  void push(std::function<void()> run) { world_.push(queue_, {.run = std::move(run)}); }
  void drain() { queue_.drain(); }

 private:
  World& world_;
  Queue& queue_;
};

void push(backend::Stream& stream, std::function<void()> run) {
  static_cast<QueueStream&>(stream).push(std::move(run));
}

// Spoilt in the common order when it is freed.
class QueueBuffer final : public backend::Buffer {
 public:
  QueueBuffer(World& world, std::shared_ptr<backend::Buffer> inner)
      : world_(world), inner_(std::move(inner)) {
    spoil(*inner_);
  }
  ~QueueBuffer() override {
    world_.freed.push_back(inner_);
    world_.push(world_.common, {.run = [inner = inner_] { spoil(*inner); }});
  }
  QueueBuffer(const QueueBuffer&) = delete;
  QueueBuffer& operator=(const QueueBuffer&) = delete;
  [[nodiscard]] void* data() const override { return inner_->data(); }
  [[nodiscard]] size_t size() const override { return inner_->size(); }

 private:
  static void spoil(const backend::Buffer& buffer) {
    std::memset(buffer.data(), 0xff, buffer.size());
  }
  World& world_;
  std::shared_ptr<backend::Buffer> inner_;
};

// The CPU's kernels, enqueued instead of run. Their table has plain functions, so what these call
// is found here.
constexpr size_t kMaxKernels = 192;
struct Inner {
  World* world = nullptr;
  std::array<const backend::Kernel*, kMaxKernels> kernels{};
};
Inner& inner() {
  static Inner instance;
  return instance;
}

class QueueLaunch final : public backend::Launch {
 public:
  explicit QueueLaunch(std::shared_ptr<backend::Launch> launch) : launch_(std::move(launch)) {}
  void enqueue(backend::Stream& stream) const override {
    push(stream, [launch = launch_] { launch->enqueue(*inner().world->cpu_stream); });
  }

 private:
  std::shared_ptr<backend::Launch> launch_;
};

template <size_t kIndex>
std::unique_ptr<backend::Launch> prepare(const graph::OpDesc& desc, const backend::DeviceInfo& info,
                                         backend::Config config,
                                         const backend::Operands& operands) {
  inner().world->drain();  // it may measure on the operands
  return std::make_unique<QueueLaunch>(
      inner().kernels[kIndex]->prepare(desc, info, config, operands));
}

template <size_t kIndex>
void pack(const graph::OpDesc& desc, const backend::DeviceInfo& info, backend::Config config,
          const TensorView& weight, void* packed) {
  inner().world->drain();
  inner().kernels[kIndex]->pack(desc, info, config, weight, packed);
}

class QueueDevice final : public backend::Device {
 public:
  explicit QueueDevice(Policy policy) {
    world_.policy = policy;
    info_ = world_.cpu->info();
    info_.host_visible_memory = false;
    wrap(std::make_index_sequence<kMaxKernels>());
    for (const backend::Kernel& kernel : wrapped_) pointers_.push_back(&kernel);
  }
  ~QueueDevice() override { world_.drain(); }
  QueueDevice(const QueueDevice&) = delete;
  QueueDevice& operator=(const QueueDevice&) = delete;

  [[nodiscard]] const backend::DeviceInfo& info() const override { return info_; }
  [[nodiscard]] std::span<const backend::Kernel* const> kernels() const override {
    return pointers_;
  }
  [[nodiscard]] std::unique_ptr<backend::Stream> create_stream() override {
    return std::make_unique<QueueStream>(world_, world_.common);
  }
  [[nodiscard]] std::unique_ptr<backend::Stream> create_side_stream() override {
    Queue& queue = *world_.sides.emplace_back(std::make_unique<Queue>());
    queue.is_side = true;
    return std::make_unique<QueueStream>(world_, queue);
  }
  [[nodiscard]] std::unique_ptr<backend::Buffer> allocate(size_t bytes) override {
    return std::make_unique<QueueBuffer>(world_, world_.cpu->allocate(bytes));
  }
  void upload(void* device, const void* host, size_t bytes) override {
    const auto* first = static_cast<const std::byte*>(host);
    world_.push(world_.common,
                {.run = [device, copy = std::vector<std::byte>(first, first + bytes)] {
                  std::memcpy(device, copy.data(), copy.size());
                }});
  }
  void download(void* host, const void* device, size_t bytes) override {
    QueueStream common(world_, world_.common);
    download_behind(common, host, device, bytes);
  }
  void copy(void* dst, const void* src, size_t bytes, backend::Stream& stream) override {
    push(stream, [=] { std::memcpy(dst, src, bytes); });
  }
  void download_behind(backend::Stream& stream, void* host, const void* device,
                       size_t bytes) override {
    copy(host, device, bytes, stream);
    stream.synchronize();
  }

 private:
  template <size_t... kIndices>
  void wrap(std::index_sequence<kIndices...>) {
    const auto kernels = world_.cpu->kernels();
    ASSERT_LE(kernels.size(), kMaxKernels);
    inner().world = &world_;
    const auto one = [&]<size_t kIndex>() {
      if (kIndex >= kernels.size()) return;
      inner().kernels[kIndex] = kernels[kIndex];
      backend::Kernel kernel = *kernels[kIndex];
      kernel.prepare = prepare<kIndex>;
      if (kernel.pack != nullptr) kernel.pack = pack<kIndex>;
      wrapped_.push_back(kernel);
    };
    (one.template operator()<kIndices>(), ...);
  }
  World world_;
  backend::DeviceInfo info_;
  std::vector<backend::Kernel> wrapped_;
  std::vector<const backend::Kernel*> pointers_;
};

using Pixels = std::vector<std::vector<uint8_t>>;

// Two requests after each other, so that the second one finds what the first one left.
Pixels draw(Policy policy, GenerateOptions wanted, bool low_vram = false) {
  QueueDevice device(policy);
  SessionOptions session;
  session.model.model = std::string(HALFTONE_SOURCE_DIR) + "/tests/golden/tiny-sdxl";
  session.precision = Precision::kF32;
  session.low_vram = low_vram;
  Generator generator(device, session);
  Pixels pixels;
  const ImageSink keep = [&](Image&& image) { pixels.push_back(std::move(image.rgb)); };
  wanted.width = 64;
  wanted.height = 48;
  for (const char* prompt : {"a cat", "a red house"}) {
    wanted.prompt = prompt;
    wanted.seed = wanted.seed.value_or(5) + 1;
    generator.generate(wanted, keep);
  }
  return pixels;
}

TEST(StreamOrder, PicturesDoNotDependOnWhatTheJoinsLeaveOpen) {
  struct Case {
    std::string name;
    GenerateOptions options;
    bool low_vram = false;
  };
  std::vector<Case> cases(5);
  cases[0].name = "one step";
  cases[0].options.steps = 1;
  cases[0].options.guidance = 0;
  cases[1].name = "steps with guidance";
  cases[1].options.steps = 3;
  cases[2].name = "a negative prompt, a batch";
  cases[2].options.steps = 2;
  cases[2].options.negative_prompt = "dog";
  cases[2].options.batch_size = 2;
  cases[3] = cases[2];
  cases[3].name = "components one after the other";
  cases[3].low_vram = true;
  cases[4].name = "noise in every step";
  cases[4].options.steps = 3;
  cases[4].options.scheduler = "euler_a";
  for (const Case& wanted : cases) {
    const Pixels in_order = draw(Policy::kAtOnce, wanted.options, wanted.low_vram);
    ASSERT_FALSE(in_order.empty());
    EXPECT_NE(in_order.front(), in_order.back()) << wanted.name;
    EXPECT_EQ(draw(Policy::kSideLate, wanted.options, wanted.low_vram), in_order) << wanted.name;
    EXPECT_EQ(draw(Policy::kSideEarly, wanted.options, wanted.low_vram), in_order) << wanted.name;
  }
}

}  // namespace
}  // namespace halftone::workflow
