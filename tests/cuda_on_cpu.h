// Runs CUDA kernels on the CPU, for tests: put in front of a kernel's text and compiled as C++17.
//
// A thread is a fiber, a block is run to its end before the next. Threads take turns at barriers, shuffles and
// tensor-core products only. A barrier that not all threads reach is an error, not a hang. Shared memory is poisoned
// with NaN before every block. Threads run in rising order, in falling order, or a warp runs ahead as far as it can.
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#define XP_ON_HOST 1
#define __global__
#define __constant__ static const
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct Dim3 {
    unsigned x, y, z;
};
struct uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static Dim3 threadIdx, blockIdx, blockDim, gridDim;

template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }

namespace cpu {

constexpr size_t STACK = 64 << 10;

struct Fiber {
    jmp_buf here;
    std::unique_ptr<char[]> stack;
    bool started = false, done = false;
};

struct Barrier {
    unsigned arrived = 0, generation = 0;
};

struct Exchange {
    unsigned words[32][8];
};

static std::vector<Fiber> fibers;
static std::vector<unsigned> live_in_warp;
static std::vector<Barrier> warp_barriers;
static std::vector<Exchange> exchanges;
static Barrier block_barrier;
static unsigned live, current;
static unsigned long progress;
static jmp_buf scheduler;
static ucontext_t first_context;
static std::vector<unsigned> shared;
static const char* broken;  // what a thread did that it may not
static void (*body)(void*);
static void* body_arguments;

inline void yield() {
    if (!_setjmp(fibers[current].here)) _longjmp(scheduler, 1);
}

inline void wait(Barrier& barrier, unsigned& expected) {
    const unsigned mine = barrier.generation;
    ++barrier.arrived;
    ++progress;
    while (barrier.generation == mine) {
        if (barrier.arrived >= expected) {
            barrier.arrived = 0;
            ++barrier.generation;
            ++progress;
            return;
        }
        yield();
    }
}

inline unsigned warp() { return current / 32; }
inline void warp_wait() { wait(warp_barriers[warp()], live_in_warp[warp()]); }

static void entry() {
    body(body_arguments);
    fibers[current].done = true;
    --live;
    --live_in_warp[warp()];
    ++progress;
    _longjmp(scheduler, 1);
}

static void resume(unsigned thread) {
    current = thread;
    threadIdx = {thread, 0, 0};
    Fiber& fiber = fibers[thread];
    if (_setjmp(scheduler)) return;
    if (fiber.started) _longjmp(fiber.here, 1);
    fiber.started = true;
    static ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.get();
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
    setcontext(&context);
}

// 0, or 1 where threads wait for each other for ever.
enum Turns { RISING, FALLING, AHEAD };

// Gives threads first .. last - 1 a turn each; whether any of them came further.
static bool turn(unsigned first, unsigned last, bool falling) {
    const unsigned long before = progress;
    for (unsigned n = first; n < last; ++n) {
        const unsigned t = falling ? last - 1 - (n - first) : n;
        if (!fibers[t].done && !broken) resume(t);
    }
    return progress != before;
}

static int run_block(unsigned n_threads, size_t shared_bytes, long long turns) {
    if (fibers.size() < n_threads) fibers.resize(n_threads);
    for (unsigned t = 0; t < n_threads; ++t) {
        if (!fibers[t].stack) fibers[t].stack.reset(new char[STACK]);
        fibers[t].started = fibers[t].done = false;
    }
    const unsigned n_warps = (n_threads + 31) / 32;
    live = n_threads;
    live_in_warp.assign(n_warps, 32);
    if (n_threads % 32) live_in_warp.back() = n_threads % 32;
    warp_barriers.assign(n_warps, Barrier());
    exchanges.resize(n_warps);
    block_barrier = Barrier();
    broken = nullptr;
    shared.assign(shared_bytes / 4 + 4, 0x7FC0DEADu);
    while (live) {
        bool moved = false;
        if (turns == AHEAD) {
            for (unsigned first = 0; first < n_threads; first += 32)
                while (turn(first, min(first + 32, n_threads), false)) moved = true;
        } else {
            moved = turn(0, n_threads, turns == FALLING);
        }
        if (broken) return 4;
        if (!moved) return 1;
    }
    for (size_t at = shared_bytes / 4; at < shared.size(); ++at)
        if (shared[at] != 0x7FC0DEADu) return 2;
    return 0;
}

template <class... A> struct Call {
    void (*kernel)(A...);
    std::tuple<A...> arguments;
    static void run(void* self) {
        auto* call = static_cast<Call*>(self);
        std::apply(call->kernel, call->arguments);
    }
};

template <class... A, size_t... I>
int launch(void (*kernel)(A...), const long long* dims, void** values, std::index_sequence<I...>) {
    Call<A...> call{kernel, {*static_cast<std::decay_t<A>*>(values[I])...}};
    body = Call<A...>::run;
    body_arguments = &call;
    gridDim = {unsigned(dims[0]), unsigned(dims[1]), unsigned(dims[2])};
    blockDim = {unsigned(dims[3]), 1, 1};
    for (unsigned z = 0; z < gridDim.z; ++z)
        for (unsigned y = 0; y < gridDim.y; ++y)
            for (unsigned x = 0; x < gridDim.x; ++x) {
                blockIdx = {x, y, z};
                const int wrong = run_block(blockDim.x, size_t(dims[4]), dims[5]);
                if (wrong) return wrong;
            }
    return 0;
}

// dims: grid x, y, z, threads of a block, bytes of shared memory, Turns. Returns 0, 1 for a
// deadlock, 2 for a write behind shared memory, 3 for a wrong number of arguments, 4 where
// `broken` says what.
template <class... A> int launch(void (*kernel)(A...), const long long* dims, void** values, int n) {
    if (n != sizeof...(A)) return 3;
    return launch(kernel, dims, values, std::index_sequence_for<A...>());
}

}  // namespace cpu

inline void __syncthreads() { cpu::wait(cpu::block_barrier, cpu::live); }
inline void __syncwarp() { cpu::warp_wait(); }

// The value of another lane of the warp.
template <class T> T __shfl_sync(unsigned mask, T value, int from) {
    static_assert(sizeof(T) == 4, "words only");
    auto& box = cpu::exchanges[cpu::warp()];
    std::memcpy(box.words[cpu::current % 32], &value, 4);
    cpu::warp_wait();
    T other;
    std::memcpy(&other, box.words[from & 31], 4);
    cpu::warp_wait();
    return other;
}

template <class T> T __shfl_xor_sync(unsigned mask, T value, int distance) {
    return __shfl_sync(mask, value, int(cpu::current % 32) ^ distance);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    auto& box = cpu::exchanges[cpu::warp()];
    box.words[cpu::current % 32][0] = predicate != 0;
    cpu::warp_wait();
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane) votes |= box.words[lane][0] << lane;
    cpu::warp_wait();
    return votes;
}

inline int __reduce_min_sync(unsigned mask, int value) {
    for (int distance = 16; distance; distance /= 2) value = min(value, __shfl_xor_sync(mask, value, distance));
    return value;
}

inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
    for (int distance = 16; distance; distance /= 2) value |= __shfl_xor_sync(mask, value, distance);
    return value;
}

inline int __popc(unsigned word) { return __builtin_popcount(word); }
inline int __ffs(int word) { return __builtin_ffs(word); }
inline int __clz(int word) { return word ? __builtin_clz(word) : 32; }

inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned left) {
    left &= 31;
    return left ? high << left | low >> (32 - left) : high;
}

inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const unsigned long long bytes = (unsigned long long)b << 32 | a;
    unsigned out = 0;
    for (int n = 0; n < 4; ++n) {
        const unsigned pick = selector >> 4 * n & 15;
        if (pick & 8) std::abort();  // sign replication: no kernel asks for it
        out |= unsigned(bytes >> 8 * pick & 0xFF) << 8 * n;
    }
    return out;
}

inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline unsigned atomicXor(unsigned* to, unsigned bits) {
    const unsigned old = *to;
    *to ^= bits;
    return old;
}

inline unsigned atomicAdd(unsigned* to, unsigned more) {
    const unsigned old = *to;
    *to += more;
    return old;
}

inline unsigned atomicOr(unsigned* to, unsigned bits) {
    const unsigned old = *to;
    *to |= bits;
    return old;
}

inline float xp_add(float a, float b) { return a + b; }
inline float xp_times(float a, float b) { return a * b; }

inline float xp_from_half(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float value;
    if (exponent == 31) value = fraction ? __uint_as_float(0x7FC00000u) : INFINITY;
    else value = exponent ? std::ldexp(1024.0f + fraction, exponent - 25) : std::ldexp(float(fraction), -24);
    return bits >> 15 ? -value : value;
}

inline unsigned short xp_to_half(float value) {
    const unsigned short sign = __float_as_uint(value) >> 31 << 15;
    const float size = std::fabs(value);
    if (std::isnan(value)) return 0x7FFF;
    if (size >= 65520.0f) return sign | 0x7C00;
    if (size == 0) return sign;
    int exponent;
    std::frexp(size, &exponent);  // size < 2^exponent
    const int unit = exponent - 11 < -24 ? -24 : exponent - 11;
    const unsigned steps = unsigned(std::nearbyint(std::ldexp(size, -unit)));  // rounds to even
    return sign | (unit == -24 ? steps : ((unit + 24) << 10) + steps);
}

inline unsigned* xp_shared() { return (unsigned*)(((uintptr_t)cpu::shared.data() + 15) & ~(uintptr_t)15); }

// mma.m16n8k16: C += A B, exact products, a float32 sum.
template <class Convert> void cpu_mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, Convert value) {
    auto& box = cpu::exchanges[cpu::warp()];
    const unsigned lane = cpu::current % 32, g = lane / 4, t = lane % 4;
    std::memcpy(box.words[lane], a, 16);
    box.words[lane][4] = b0;
    box.words[lane][5] = b1;
    cpu::warp_wait();
    for (int n = 0; n < 4; ++n) {
        const unsigned row_half = n / 2, column = 2 * t + n % 2;
        double sum = 0;
        for (unsigned s = 0; s < 4; ++s)
            for (unsigned half = 0; half < 2; ++half) {
                const unsigned left = box.words[g * 4 + s][2 * half + row_half];
                const unsigned right = box.words[column * 4 + s][4 + half];
                sum += double(value(left & 0xFFFF)) * value(right & 0xFFFF);
                sum += double(value(left >> 16)) * value(right >> 16);
            }
        c[n] = float(c[n] + sum);
    }
    cpu::warp_wait();
}

// mma.m16n8k256 of bits with AND and population count, from the tables of the PTX ISA.
inline void xp_count(int (&c)[4], const unsigned (&a)[4], uint2 b) {
    auto& box = cpu::exchanges[cpu::warp()];
    const unsigned lane = cpu::current % 32, g = lane / 4, t = lane % 4;
    std::memcpy(box.words[lane], a, 16);
    box.words[lane][4] = b.x;
    box.words[lane][5] = b.y;
    cpu::warp_wait();
    for (unsigned n = 0; n < 4; ++n) {
        const unsigned lower = n / 2, column = 2 * t + n % 2;
        for (unsigned word = 0; word < 8; ++word) {
            const unsigned left = box.words[g * 4 + word % 4][2 * (word / 4) + lower];
            const unsigned right = box.words[column * 4 + word % 4][4 + word / 4];
            c[n] += __builtin_popcount(left & right);
        }
    }
    cpu::warp_wait();
}

// mma.m16n8k128: its first half.
inline void xp_count_half(int (&c)[4], unsigned a0, unsigned a1, unsigned b) {
    const unsigned a[4] = {a0, a1, 0, 0};
    xp_count(c, a, {b, 0});
}
