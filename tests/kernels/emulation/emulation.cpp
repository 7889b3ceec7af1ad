// The fibers behind emulation.h, and the small floating-point formats.

#include "emulation.h"

#include <ucontext.h>

#include <cstdlib>
#include <memory>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {
namespace {

constexpr size_t kStackBytes = 256 << 10;
enum class State { kReady, kAtWarp, kAtBlock, kDone };

struct Copy {
  void* to;
  const void* from;
  size_t bytes, given;  // the rest of `bytes` is zero
};

struct Lane {
  State state;
  bool started;
  int parity;
  std::pair<const char*, unsigned> barrier;  // file and line of the one it waits at
  dim3 thread;
  jmp_buf at;
  ucontext_t start;
  std::unique_ptr<unsigned char[]> stack;
  std::vector<std::vector<Copy>> groups;  // closed, then the open one
};

std::vector<Lane> lanes;
std::vector<unsigned char> slots;  // [warp][parity][lane][kSlotBytes]
std::vector<unsigned char> memory;
const std::function<void()>* running = nullptr;
jmp_buf scheduler;
Lane* current = nullptr;
std::string error;

void run_lane() {
  (*running)();
  current->state = State::kDone;
  _longjmp(scheduler, 1);
}

void pause(State state) {
  Lane* self = current;
  self->state = state;
  if (_setjmp(self->at) == 0) _longjmp(scheduler, 1);
}

void resume(Lane& lane) {
  current = &lane;
  threadIdx = lane.thread;
  if (_setjmp(scheduler) != 0) return;
  if (lane.started) _longjmp(lane.at, 1);
  lane.started = true;
  getcontext(&lane.start);
  lane.start.uc_stack.ss_sp = lane.stack.get();
  lane.start.uc_stack.ss_size = kStackBytes;
  lane.start.uc_link = nullptr;
  makecontext(&lane.start, run_lane, 0);
  setcontext(&lane.start);
}

std::string where() {
  return " in block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + ")";
}

// Lets go whoever has been waited for. False: nobody, which is the end or an error.
bool release() {
  bool any = false;
  size_t done = 0;
  for (size_t first = 0; first < lanes.size(); first += kLanes) {
    size_t met = 0, gone = 0, here = std::min<size_t>(kLanes, lanes.size() - first);
    for (size_t one = first; one < first + here; ++one) {
      met += lanes[one].state == State::kAtWarp;
      gone += lanes[one].state == State::kDone;
    }
    done += gone;
    if (met == 0) continue;
    if (met < kLanes) {
      error = "only " + std::to_string(met) + " lanes of warp " + std::to_string(first / kLanes) + " reached a warp-wide operation" + where();
      return false;
    }
    for (size_t one = first; one < first + here; ++one) lanes[one].state = State::kReady;
    any = true;
  }
  if (any || done == lanes.size()) return any;
  const Lane* first = nullptr;  // all that are left wait at a barrier
  for (Lane& lane : lanes) {
    if (lane.state != State::kAtBlock) continue;
    if (!first) first = &lane;
    if (lane.barrier != first->barrier) {
      error = "threads wait for each other at different barriers, in lines " + std::to_string(first->barrier.second) + " and " +
              std::to_string(lane.barrier.second) + "," + where();
      return false;
    }
    lane.state = State::kReady;
  }
  return true;
}

void run_block(size_t shared_bytes, bool reverse) {
  memory.assign(shared_bytes + 16, 0xff);  // NaN in every floating-point format
  const size_t count = lanes.size();
  for (size_t one = 0; one < count; ++one) {
    Lane& lane = lanes[one];
    lane.state = State::kReady;
    lane.started = false;
    lane.parity = 0;
    lane.groups.assign(1, {});
    lane.thread = dim3(static_cast<unsigned>(one % blockDim.x), static_cast<unsigned>(one / blockDim.x % blockDim.y),
                       static_cast<unsigned>(one / (blockDim.x * blockDim.y)));
  }
  do {
    for (size_t step = 0; step < count; ++step) {
      Lane& lane = lanes[reverse ? count - 1 - step : step];
      if (lane.state == State::kReady) resume(lane);
    }
  } while (release());
}

}  // namespace

int launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  error.clear();
  const char* order = std::getenv("PERFQ_EMULATED_ORDER");
  const bool reverse = order && std::string(order) == "reverse";
  const size_t count = size_t{block.x} * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || count == 0 || count > 1024 || grid.y > 65535 || grid.z > 65535) {
    error = "a launch of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z) + " blocks of " +
            std::to_string(count) + " threads";
    return 1;
  }
  running = &body;
  gridDim = grid;
  blockDim = block;
  lanes.resize(count);
  for (Lane& lane : lanes) {
    if (!lane.stack) lane.stack = std::make_unique<unsigned char[]>(kStackBytes);
  }
  slots.assign((count + kLanes - 1) / kLanes * 2 * kLanes * kSlotBytes, 0xff);
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        run_block(shared_bytes, reverse);
        if (!error.empty()) return 1;
      }
    }
  }
  return 0;
}

const char* last_error() { return error.c_str(); }

unsigned char* shared() {
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  return memory.data() + (16 - address % 16) % 16;
}

void block_barrier(const std::source_location& at) {
  current->barrier = {at.file_name(), at.line()};
  pause(State::kAtBlock);
}

int lane_of_warp() { return static_cast<int>((current - lanes.data()) % kLanes); }

const unsigned char* meet(const void* given, size_t bytes) {
  const size_t number = static_cast<size_t>(current - lanes.data());
  unsigned char* all = slots.data() + (number / kLanes * 2 + static_cast<size_t>(current->parity)) * kLanes * kSlotBytes;
  // Two sets in turn: a lane that is a step ahead writes the other one.
  current->parity ^= 1;
  if (bytes) std::memcpy(all + number % kLanes * kSlotBytes, given, bytes);
  pause(State::kAtWarp);
  return all;
}

void copy_later(void* to, const void* from, size_t bytes, size_t given) {
  current->groups.back().push_back({to, from, bytes, given});
}

void close_group() { current->groups.emplace_back(); }

void wait_groups(int left) {
  auto& groups = current->groups;
  while (static_cast<int>(groups.size()) - 1 > left) {
    for (const Copy& copy : groups.front()) {
      std::memcpy(copy.to, copy.from, copy.given);
      std::memset(static_cast<unsigned char*>(copy.to) + copy.given, 0, copy.bytes - copy.given);
    }
    groups.erase(groups.begin());
  }
}

uint16_t half_bits(float value) {
  const _Float16 rounded = static_cast<_Float16>(value);
  uint16_t bits;
  std::memcpy(&bits, &rounded, 2);
  return bits;
}

float half_value(uint16_t bits) {
  _Float16 value;
  std::memcpy(&value, &bits, 2);
  return static_cast<float>(value);
}

uint16_t bfloat_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float bfloat_value(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

float f8_value(uint8_t bits) {
  const int exponent = bits >> 3 & 15, fraction = bits & 7;
  if (exponent == 15 && fraction == 7) return NAN;
  const float size = exponent ? std::ldexp(1.0f + static_cast<float>(fraction) / 8, exponent - 7) : std::ldexp(static_cast<float>(fraction), -9);
  return bits & 128 ? -size : size;
}

uint8_t f8_bits(float value) {
  if (value != value) return 0x7f;
  const uint8_t sign = std::signbit(value) ? 128 : 0;
  const float size = std::fabs(value);
  if (size >= 448.0f) return sign | 0x7e;  // saturates, as CUDA's conversion does
  const int exponent = size < std::ldexp(1.0f, -6) ? -6 : std::ilogb(size);
  const float steps = std::nearbyint(std::ldexp(size, 3 - exponent));  // ties to even
  // A carry out of the fraction lands in the exponent by itself.
  const int code = (exponent == -6 && steps < 8 ? 0 : (exponent + 7) << 3) + static_cast<int>(steps) - (exponent == -6 && steps < 8 ? 0 : 8);
  return static_cast<uint8_t>(sign | code);
}

}  // namespace emulation
