// Asynchronous tensor cores, copies and barriers of compute capability 9.0 on the CPU, for tests: behind cuda_on_cpu.h.
//
// Everything asynchronous happens as late as it may. A product reads its operands, in registers and in shared memory, when
// its group is waited for, so that operands overwritten before are seen; its sums are NaN until nothing is in flight, and
// must not be touched. A copy's destination is NaN until its barrier is waited for. Layouts are those of the PTX ISA's
// tables (wgmma: register fragments, matrix descriptor, canonical layouts), and know nothing of what the kernels make of them.
#include <algorithm>

namespace cpu {

constexpr unsigned UNTOUCHED = 0x7FC0DEADu;

struct Product {
    const unsigned* a;
    unsigned long long b;
};

// What a thread has in flight.
struct Flight {
    float* sums = nullptr;
    float kept[128];
    std::vector<std::vector<Product>> groups;
    std::vector<Product> open;
    bool begun = false;
};

struct Barrier64 {
    unsigned short pending, expected : 15, phase : 1;
    int bytes;
};
static_assert(sizeof(Barrier64) == 8, "as in memory");

struct Copy {
    void* to;
    const void* from;
    unsigned bytes;
    Barrier64* barrier;
};

static std::vector<Flight> flights(1024);
static std::vector<std::vector<float>> activations(32);
static std::vector<Copy> copies;

// Ends the launch.
[[noreturn]] inline void wrong(const char* what) {
    std::fprintf(stderr, "thread %u: %s\n", current, what);
    broken = what;
    flights.assign(1024, Flight());
    copies.clear();
    _longjmp(scheduler, 1);
}

inline char* shared_begin() { return (char*)(((uintptr_t)shared.data() + 15) & ~(uintptr_t)15); }
inline size_t shared_size() { return shared.size() * 4 - 16; }

// A product's activations B (16, 256) by the descriptor: B[k][n], K-major, without swizzling.
template <class Convert> void read_activations(unsigned long long descriptor, std::vector<float>& b, Convert value) {
    const unsigned begin = unsigned(descriptor & 0x3FFF) << 4;
    const unsigned leading = unsigned(descriptor >> 16 & 0x3FFF) << 4;
    const unsigned stride = unsigned(descriptor >> 32 & 0x3FFF) << 4;
    if (descriptor >> 62) wrong("a descriptor with swizzling");
    if (descriptor >> 49 & 7) wrong("a descriptor with a base offset");
    if (descriptor & 0x3FF1C000C000C000ull) wrong("a descriptor with bits that mean nothing");
    b.resize(16 * 256);
    for (unsigned k = 0; k < 16; ++k)
        for (unsigned n = 0; n < 256; ++n) {
            // core matrices of 8 columns n x 16 bytes of k; `leading` from one to the next in k, `stride` in n
            const size_t at = begin + k / 8 * leading + n / 8 * stride + n % 8 * 16 + k % 8 * 2;
            if (at + 2 > shared_size()) wrong("a descriptor of what lies behind shared memory");
            unsigned short bits;
            std::memcpy(&bits, shared_begin() + at, 2);
            b[k * 256 + n] = value(bits);
        }
}

// The share of this thread of a product, by its warp together.
template <class Convert> void multiply(Flight& flight, const Product& product, Convert value) {
    auto& box = exchanges[warp()];
    auto& b = activations[warp()];
    const unsigned lane = current % 32;
    std::memcpy(box.words[lane], product.a, 16);
    if (lane == 0) read_activations(product.b, b, value);
    warp_wait();
    for (unsigned half = 0; half < 2; ++half) {  // rows lane / 4 and 8 more
        float row[16];
        for (unsigned k = 0; k < 16; ++k) {
            const unsigned word = box.words[lane / 4 * 4 + k % 8 / 2][k / 8 * 2 + half];
            row[k] = value(k % 2 ? word >> 16 : word & 0xFFFF);
        }
        for (unsigned i = 0; i < 64; ++i) {
            const unsigned column = i / 2 * 8 + lane % 4 * 2 + i % 2;
            double sum = 0;
            for (unsigned k = 0; k < 16; ++k) sum += double(row[k]) * b[k * 256 + column];
            float& total = flight.kept[i / 2 * 4 + 2 * half + i % 2];
            total = float(total + sum);
        }
    }
    warp_wait();
}

inline void complete(Barrier64* barrier) {
    if (barrier->pending || barrier->bytes) return;
    barrier->phase ^= 1;
    barrier->pending = barrier->expected;
    ++progress;
}

}  // namespace cpu

inline unsigned xp_shared_address(const void* pointer) {
    const auto at = (const char*)pointer - cpu::shared_begin();
    if (at < 0 || size_t(at) > cpu::shared_size()) cpu::wrong("an address of memory that is not shared");
    return unsigned(at);
}

template <int Behind> unsigned xp_shared_word(unsigned address) {
    if (address % 4 || address + Behind + 4 > cpu::shared_size()) cpu::wrong("a word that is not in shared memory");
    unsigned word;
    std::memcpy(&word, cpu::shared_begin() + address + Behind, 4);
    return word;
}

inline void xp_shared_store(unsigned address, unsigned word) {
    if (address % 4 || address + 4 > cpu::shared_size()) cpu::wrong("a word that is not in shared memory");
    std::memcpy(cpu::shared_begin() + address, &word, 4);
}

inline void xp_registers_give() {}
inline void xp_registers_take() {}

inline void xp_barrier_begin(unsigned long long* barrier, int arrivals) {
    const cpu::Barrier64 fresh = {(unsigned short)arrivals, (unsigned short)arrivals, 0, 0};
    std::memcpy(barrier, &fresh, 8);
    cpu::copies.clear();
}

inline void xp_barriers_begun() {}

inline void xp_barrier_arrive(unsigned long long* barrier) {
    auto* own = (cpu::Barrier64*)barrier;
    if (!own->pending) cpu::wrong("more arrivals than a phase has");
    --own->pending;
    ++cpu::progress;
    cpu::complete(own);
}

inline void xp_barrier_wait(unsigned long long* barrier, unsigned parity) {
    auto* own = (cpu::Barrier64*)barrier;
    for (;;) {
        for (size_t n = 0; n < cpu::copies.size();) {
            const auto copy = cpu::copies[n];
            if (copy.barrier != own) {
                ++n;
                continue;
            }
            std::memcpy(copy.to, copy.from, copy.bytes);
            own->bytes -= int(copy.bytes);
            cpu::copies.erase(cpu::copies.begin() + n);
            ++cpu::progress;
            cpu::complete(own);
        }
        if (own->phase != parity) break;
        cpu::yield();
    }
    ++cpu::progress;
}

inline void xp_copy(void* to, const void* from, unsigned bytes, unsigned long long* barrier) {
    auto* own = (cpu::Barrier64*)barrier;
    if (((uintptr_t)from | xp_shared_address(to) | bytes) % 16) cpu::wrong("a copy that is not of 16 bytes");
    if (xp_shared_address(to) + bytes > cpu::shared_size()) cpu::wrong("a copy behind shared memory");
    if (!own->pending) cpu::wrong("more arrivals than a phase has");
    --own->pending;
    own->bytes += int(bytes);
    std::memset(to, 0xFF, bytes);
    cpu::copies.push_back({to, from, bytes, own});
    ++cpu::progress;
}

inline void xp_products_begin() {
    cpu::warp_wait();
    cpu::flights[cpu::current].begun = true;
}

inline void xp_wgmma(float (&sums)[128], const unsigned (&a)[4], unsigned long long b) {
    auto& flight = cpu::flights[cpu::current];
    if (!flight.begun) cpu::wrong("products before a fence");
    if (flight.groups.empty() && flight.open.empty()) {
        flight.sums = sums;
        std::memcpy(flight.kept, sums, sizeof flight.kept);
        std::fill_n((unsigned*)sums, 128, cpu::UNTOUCHED);
    }
    for (unsigned n = 0; n < 128; ++n)
        if (((unsigned*)sums)[n] != cpu::UNTOUCHED) cpu::wrong("sums touched while products are in flight");
    flight.open.push_back({a, b});
}

inline void xp_products_end() {
    auto& flight = cpu::flights[cpu::current];
    flight.groups.push_back(flight.open);
    flight.open.clear();
    flight.begun = false;
}

template <int Left, class Convert> void cpu_products_wait(Convert value) {
    auto& flight = cpu::flights[cpu::current];
    while (flight.groups.size() > Left) {
        for (const auto& product : flight.groups.front()) cpu::multiply(flight, product, value);
        flight.groups.erase(flight.groups.begin());
        if (flight.groups.empty() && flight.open.empty()) std::memcpy(flight.sums, flight.kept, sizeof flight.kept);
    }
}

// A number rounded to float16 (Type 1) or bfloat16, to even.
template <int Type> unsigned cpu_rounded(double value) {
    constexpr int BITS = Type == 1 ? 11 : 8, LEAST = Type == 1 ? -24 : -133, INFINITE = Type == 1 ? 0x7C00 : 0x7F80;
    const unsigned sign = std::signbit(value) ? 0x8000 : 0;
    const double size = std::fabs(value);
    if (std::isnan(value)) return 0x7FFF;
    if (size == 0) return sign;
    int exponent;
    std::frexp(size, &exponent);  // size < 2^exponent
    const int unit = exponent - BITS < LEAST ? LEAST : exponent - BITS;
    const double steps = std::nearbyint(std::ldexp(size, -unit));
    const unsigned bits = unsigned(steps) + (unit == LEAST ? 0 : unsigned(unit - LEAST) << (BITS - 1));
    return sign | (bits < unsigned(INFINITE) ? bits : unsigned(INFINITE));
}

// a * b + c of both halves, with one rounding.
template <int Type, class Convert> unsigned cpu_two(unsigned a, unsigned b, unsigned c, Convert value) {
    unsigned sum = 0;
    for (int half = 0; half < 32; half += 16) {
        const auto of = [&](unsigned word) { return double(value(word >> half & 0xFFFF)); };
        sum |= cpu_rounded<Type>(of(a) * of(b) + of(c)) << half;
    }
    return sum;
}
