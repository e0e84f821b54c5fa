// Finds races of kernels that run on the CPU: between cuda_on_cpu.h and the kernel's text, compiled with
// -fsanitize=thread and without its library: the compiler then calls the functions below at every access to memory.
//
// Two accesses to a byte by different threads, one of which writes, are a race unless a barrier lies between them:
// __syncthreads of the block, or __syncwarp of the warp that both are of. Shuffles and votes order nothing in memory, and
// blocks are not ordered at all. Atomic operations are no race with each other nor with volatile reads. What is found
// does not depend on the order in which threads run. Of what several warps read, races of a warp's own lanes are missed.
// Nothing here may use the library: what the compiler does not inline calls these functions again.

namespace races {

enum Kind { READ, WRITE, VOLATILE, ATOMIC };

// Of four bytes, or of one: who wrote it last, who has read it since the block's last barrier. Threads count from 1.
struct Place {
    unsigned write_block, write_turn, write_step, read_block, read_turn, read_step, read_warps;
    unsigned short writer, reader;
    bool atomic_write, plain_read;
};

struct Range {
    uintptr_t begin, end;
    bool shared;
    unsigned unit;  // bytes of a place: 4 until fewer are touched
    Place* places;
};

static Range ranges[1 << 12];  // rising, without overlaps
static size_t n_ranges, hit;
static unsigned turns[1024], steps[1024];  // barriers of the block, of the warp, that a thread is past
static unsigned serial;                     // of the block, from 1 on
static unsigned long accesses;
constexpr unsigned long PATIENCE = 1 << 16;  // of them after which others have their turn
static bool known_shared, running;
static char found[200];

XP_QUIET static void pass(bool whole_block) { ++(whole_block ? turns : steps)[cpu::current]; }
XP_QUIET static bool found_one() { return found[0]; }
XP_QUIET static void end_block() { running = false; }

XP_QUIET static void forget() {
    for (size_t n = 0; n < n_ranges; ++n) std::free(ranges[n].places);
    n_ranges = hit = 0;
    known_shared = running = false;
    found[0] = 0;
}

XP_QUIET static void watch(uintptr_t begin, size_t n_bytes, bool shared) {
    if (!n_bytes) return;
    if (n_ranges == 1 << 12) std::abort();
    size_t n = n_ranges++;
    for (; n && ranges[n - 1].begin > begin; --n) ranges[n] = ranges[n - 1];
    ranges[n].begin = begin, ranges[n].end = begin + n_bytes, ranges[n].shared = shared;
    ranges[n].unit = 4;
    ranges[n].places = (Place*)std::calloc(n_bytes / 4 + 2, sizeof(Place));
}

XP_QUIET static void begin_block(unsigned n_threads, const void* shared, size_t shared_bytes) {
    if (!known_shared) {
        watch((uintptr_t)shared, shared_bytes + 16, true);
        known_shared = true;
    }
    ++serial;
    running = true;
    for (unsigned t = 0; t < n_threads; ++t) turns[t] = steps[t] = 0;
}

// Ends the block.
XP_QUIET static void report(const Range& range, uintptr_t at, Kind kind, unsigned other) {
    static const char* names[] = {"reads", "writes", "reads", "changes"};
    std::snprintf(found, sizeof found, "thread %u %s what thread %u touched, no barrier between: %s memory, byte %zu of %zu",
                  cpu::current, names[kind], other, range.shared ? "shared" : "global", size_t(at - range.begin), size_t(range.end - range.begin));
    _longjmp(cpu::scheduler, 1);  // what comes of it may be a loop without an end
}

XP_QUIET static void touch(const Range& range, uintptr_t at, Kind kind) {
    Place& place = range.places[(at - range.begin) / range.unit];
    const unsigned t = cpu::current, warp = t / 32, turn = turns[t], step = steps[t];
    const bool writes = kind == WRITE || kind == ATOMIC, plain = kind == READ || kind == WRITE;
    if (place.writer && (plain || !place.atomic_write)) {
        const unsigned other = place.writer - 1;
        const bool between = place.write_turn != turn || (other / 32 == warp && place.write_step != step);
        if (place.write_block != serial ? !range.shared : other != t && !between) report(range, at, kind, other);
    }
    const bool fresh = place.read_block != serial || place.read_turn != turn;
    if (writes && place.reader && (plain || place.plain_read)) {
        const bool others = fresh ? place.read_block != serial && !range.shared : (place.read_warps & ~(1u << warp)) != 0;
        const bool lanes = !fresh && place.read_warps == 1u << warp && place.read_step == step && place.reader != t + 1u;
        if (others || lanes) report(range, at, kind, place.reader == 0xFFFF ? 9999 : place.reader - 1);
    }
    if (writes) {
        place.write_block = serial, place.write_turn = turn, place.write_step = step;
        place.writer = t + 1, place.atomic_write = kind == ATOMIC;
    } else {
        const bool same = !fresh && place.read_warps == 1u << warp && place.read_step == step;
        place.reader = same && place.reader != t + 1u ? 0xFFFF : t + 1;
        place.read_warps = (fresh ? 0 : place.read_warps) | 1u << warp;
        place.plain_read = (!fresh && place.plain_read) || kind == READ;
        place.read_block = serial, place.read_turn = turn, place.read_step = step;
    }
}

XP_QUIET static void access(const void* pointer, size_t n_bytes, Kind kind) {
    const uintptr_t from = (uintptr_t)pointer, to = from + n_bytes;
    if (!running || from < ranges[0].begin || from >= ranges[n_ranges - 1].end) return;
    if (from < ranges[hit].begin || from >= ranges[hit].end) {
        size_t low = 0, high = n_ranges;
        while (high - low > 1) {
            const size_t middle = (low + high) / 2;
            if (ranges[middle].begin <= from) low = middle;
            else high = middle;
        }
        hit = low;
        if (from >= ranges[hit].end) return;
    }
    Range& range = ranges[hit];
    if (range.unit == 4 && ((from - range.begin) % 4 || n_bytes % 4)) {
        std::free(range.places);
        range.unit = 1;
        range.places = (Place*)std::calloc(range.end - range.begin + 16, sizeof(Place));
    }
    for (uintptr_t at = from; at < to; at += range.unit) touch(range, at, kind);
    if (++accesses % PATIENCE == 0) {  // a thread may wait for others without a barrier
        ++cpu::progress;
        cpu::yield();
    }
}

XP_QUIET static void change(const void* word) { access(word, 4, ATOMIC); }

}  // namespace races

// Before a launch: n pairs of an address and bytes of memory on the device.
extern "C" XP_QUIET void watch(const long long* pairs, int n) {
    races::forget();
    for (int i = 0; i < n; ++i) races::watch((uintptr_t)pairs[2 * i], (size_t)pairs[2 * i + 1], false);
}

extern "C" XP_QUIET const char* race() { return races::found; }

#define XP_HOOKS(N)                                                                                              \
    XP_QUIET void __tsan_read##N(void* at) { races::access(at, N, races::READ); }                                \
    XP_QUIET void __tsan_write##N(void* at) { races::access(at, N, races::WRITE); }                              \
    XP_QUIET void __tsan_unaligned_read##N(void* at) { races::access(at, N, races::READ); }                      \
    XP_QUIET void __tsan_unaligned_write##N(void* at) { races::access(at, N, races::WRITE); }                    \
    XP_QUIET void __tsan_volatile_read##N(void* at) { races::access(at, N, races::VOLATILE); }                   \
    XP_QUIET void __tsan_volatile_write##N(void* at) { races::access(at, N, races::ATOMIC); }                    \
    XP_QUIET void __tsan_unaligned_volatile_read##N(void* at) { races::access(at, N, races::VOLATILE); }         \
    XP_QUIET void __tsan_unaligned_volatile_write##N(void* at) { races::access(at, N, races::ATOMIC); }
extern "C" {
XP_HOOKS(1)
XP_HOOKS(2)
XP_HOOKS(4)
XP_HOOKS(8)
XP_HOOKS(16)
XP_QUIET void __tsan_read_range(void* at, size_t n) { races::access(at, n, races::READ); }
XP_QUIET void __tsan_write_range(void* at, size_t n) { races::access(at, n, races::WRITE); }
XP_QUIET void __tsan_func_entry(void*) {}
XP_QUIET void __tsan_func_exit() {}
XP_QUIET void __tsan_init() {}
}
