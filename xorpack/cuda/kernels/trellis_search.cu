// Chooses the stored bits of a trellis tensor's columns: the search of xorpack/encoding/quantize/trellis_kernels.py, the
// same bits. All is integers, so that no order of anything matters, but that of branches: of equals, the lower wins.
//
//   trellis_search   a block takes one column after another, its threads have the windows: a free search around the
//                    column's seam chooses the window that it begins and ends in, a search of all steps follows, and
//                    thread 0 goes back along what survived. Blocks are as many as may run at once.
//   trellis_words    32 columns' chosen bits as words of code
//
// Macros: XP_WINDOW, XP_N_IN, XP_N_OUT   the network
//         XP_FINE      1: differences are taken 4 times finer
//         XP_THREADS   of a block of trellis_search: a power of two from 32 on, no more than windows
//         XP_GLOBAL    1: costs lie in `costs`, not in shared memory
//
// A state is XP_WINDOW bits, the newest highest; a window what is left of it when the bits that fall out at the next
// step, the lowest, are forgotten: state = window << dropped | branch. Old costs, levels and branches of a window are
// neighbours, so that one load takes up to 8 of them.
//   targets, weights [column][row]   int16; where a weight is 0, the target is don't care
//   kinds [column]      0: all are, 1: weights are equal, 2: they are not
//   levels [row % XP_N_OUT][state]   int16
//   firsts [n_steps + 1], news [n_steps]   first row and stored bits of each step, places: bits before it
//   survivors [block][step][window / 32][dropped]   bit `window % 32` of word k is bit k of the branch
//   path [column][step] stored bits of the step; code [place][chunk]
// Shared memory: 64 words, XP_STAGE and, but for XP_GLOBAL, XP_WINDOWS. Moved: 4 bytes a weight in, 1 out; 2^(XP_WINDOW - 3 - dropped) * dropped bytes
// of survivors written and read. Oracle: search_kernel.

#ifndef XP_WINDOW
#define XP_WINDOW 12
#endif
#ifndef XP_N_IN
#define XP_N_IN 2
#endif
#ifndef XP_N_OUT
#define XP_N_OUT 1
#endif
#ifndef XP_FINE
#define XP_FINE 0
#endif
#ifndef XP_THREADS
#define XP_THREADS 256
#endif
#ifndef XP_GLOBAL
#define XP_GLOBAL 0
#endif
#define XP_LEAST_NEW (XP_N_IN < XP_N_OUT ? 1 : XP_N_IN / XP_N_OUT)
#define XP_MOST_NEW ((XP_N_IN + XP_N_OUT - 1) / XP_N_OUT)
#define XP_WINDOWS (1 << (XP_WINDOW - XP_LEAST_NEW))
#define XP_STRIDE xp_most(xp_step_words(XP_LEAST_NEW), xp_step_words(XP_MOST_NEW))
#define XP_BLOCKS (XP_THREADS < 64 ? 16 : 1024 / XP_THREADS)
#define XP_STAGED 1024
#define XP_STAGE (XP_STRIDE <= XP_STAGED ? XP_STAGED : 4)
#define XP_LARGEST 32767
#if XP_N_IN < XP_N_OUT  // several rows a step
#define XP_TURNS 1
#else
#define XP_TURNS 4
#endif
#define XP_ELSEWHERE 16000

typedef unsigned short Cost;

constexpr int xp_most(int a, int b) { return a > b ? a : b; }
constexpr int xp_step_words(int dropped) { return (1 << (XP_WINDOW - dropped)) / 32 * dropped; }

struct Search {
    const int *firsts, *news;
    const short *targets, *weights, *levels;
    u32* survivors;
    Cost* costs;  // [2][XP_WINDOWS]
    u32 *lows, *staged;
    int n_steps;
    bool weighted;
};

__device__ __forceinline__ int xp_clip(int d) { return min(max(d, -XP_LARGEST - 1), XP_LARGEST); }

__device__ __forceinline__ int xp_new(const int* news, int step) {
    return XP_LEAST_NEW == XP_MOST_NEW ? XP_LEAST_NEW : news[step];
}

// 2, 4 or 8 numbers of 16 bits that lie side by side.
template <int N> __device__ __forceinline__ void xp_load(const void* from, u32 (&words)[N / 2]) {
    if constexpr (N == 2) {
        words[0] = *(const u32*)from;
    } else if constexpr (N == 4) {
        const uint2 pair = *(const uint2*)from;
        words[0] = pair.x, words[1] = pair.y;
    } else {
        const uint4 four = *(const uint4*)from;
        words[0] = four.x, words[1] = four.y, words[2] = four.z, words[3] = four.w;
    }
}

// Adds the squared errors of one weight to the costs of N branches.
template <int N, bool WEIGHTED>
__device__ __forceinline__ void xp_errors(int (&sums)[N], const short* levels, int target, int weight) {
    u32 words[N / 2];
    xp_load<N>(levels, words);
    constexpr int finer = XP_FINE ? 4 : 1;
#pragma unroll
    for (int b = 0; b < N; ++b) {
        const int level = b & 1 ? (int)words[b >> 1] >> 16 : (int)(short)words[b >> 1];
        const int d = xp_clip(finer * target - finer * level);
        const int e = WEIGHTED ? d * weight >> 16 : d;
        sums[b] += e * d >> 16;
    }
}

// One step: the branch of least cost into each of the windows that drop D bits. Returns the least new cost of a thread.
// Costs stop at XP_LARGEST; as errors are not negative, it is enough that their sums do.
template <int D, bool WEIGHTED>
__device__ __forceinline__ int xp_step(const Search& search, int step, int shared, const Cost* __restrict__ now, Cost* __restrict__ then, int least, u32* __restrict__ survivors) {
    constexpr int n = D < 3 ? 1 << D : 8;
    const int first = search.firsts[step], end = search.firsts[step + 1];
    const int target = search.targets[first], weight = search.weights[first], lane = threadIdx.x & 31;
    int low = XP_LARGEST;
#pragma unroll XP_TURNS
    for (int turn = 0; turn < (1 << (XP_WINDOW - D)) / XP_THREADS; ++turn) {  // no divergence: all lanes vote
        const int i = turn * XP_THREADS + threadIdx.x;
        int best = XP_LARGEST << D;
#pragma unroll 2
        for (int begin = 0; begin < 1 << D; begin += n) {
            u32 words[n / 2];
            int sums[n];
            xp_load<n>(now + ((i & (1 << shared) - 1) << D) + begin, words);
#pragma unroll
            for (int b = 0; b < n; ++b) sums[b] = (b & 1 ? (int)(words[b >> 1] >> 16) : (int)(words[b >> 1] & 0xFFFF)) - least;
            const short* own = search.levels + (i << D) + begin;
            if (weight) xp_errors<n, WEIGHTED>(sums, own + (first % XP_N_OUT << XP_WINDOW), target, weight);
#pragma unroll 1
            for (int row = first + 1; XP_N_IN < XP_N_OUT && row < end; ++row) {
                const int other = search.weights[row];
                if (other) xp_errors<n, WEIGHTED>(sums, own + (row % XP_N_OUT << XP_WINDOW), search.targets[row], other);
            }
#pragma unroll
            for (int b = 0; b < n; ++b) best = min(best, (sums[b] << D) + (begin + b));
        }
        then[i] = (Cost)(best >> D);
        low = min(low, best >> D);
        u32 word = 0;
#pragma unroll
        for (int k = 0; k < D; ++k) {
            const u32 bits = __ballot_sync(0xFFFFFFFFu, best >> k & 1);
            if (lane == k) word = bits;
        }
        if (lane < D) survivors[(i >> 5) * D + lane] = word;
    }
    return low;
}

template <int D> __device__ __forceinline__ int xp_any_step(const Search& search, int step, int shared, const Cost* __restrict__ now, Cost* __restrict__ then, int least, u32* __restrict__ survivors) {
    return search.weighted ? xp_step<D, true>(search, step, shared, now, then, least, survivors)
                           : xp_step<D, false>(search, step, shared, now, then, least, survivors);
}

// Searches n steps from `begin` on, cyclically, from window `state`, or from any where that is negative. Costs less
// `least`, which is returned, are then at `search.costs`.
__device__ __forceinline__ int xp_run(const Search& search, int begin, int n, int state) {
    Cost *now = search.costs, *then = now + XP_WINDOWS;
    if (n & 1) now = then, then = search.costs;
    int fresh = xp_new(search.news, begin), step = begin, least = 0;
    for (int i = threadIdx.x; i < 1 << (XP_WINDOW - fresh); i += XP_THREADS) now[i] = state < 0 || i == state ? 0 : XP_ELSEWHERE;
    __syncthreads();
    const int lane = threadIdx.x & 31;
    u32* survivors = search.survivors;
    for (int t = 0; t < n; ++t) {
        const int next = step + 1 == search.n_steps ? 0 : step + 1;
        const int dropped = xp_new(search.news, next), shared = XP_WINDOW - fresh - dropped;
        int low;
        if (dropped == XP_LEAST_NEW) low = xp_any_step<XP_LEAST_NEW>(search, step, shared, now, then, least, survivors);
        else low = xp_any_step<XP_MOST_NEW>(search, step, shared, now, then, least, survivors);
        low = __reduce_min_sync(0xFFFFFFFFu, low);
        u32* lows = search.lows + (t & 1) * 32;
        if (!lane) lows[threadIdx.x >> 5] = low;
        __syncthreads();
        least = __reduce_min_sync(0xFFFFFFFFu, lane < XP_THREADS / 32 ? (int)lows[lane] : XP_LARGEST);
        Cost* const other = now;
        now = then, then = other;
        survivors += XP_STRIDE;
        step = next, fresh = dropped;
    }
    return least;
}

// The lowest window of those whose cost is the least.
__device__ __forceinline__ int xp_first(const Search& search, int dropped, int least) {
    int found = XP_WINDOWS;
    for (int i = threadIdx.x; i < 1 << (XP_WINDOW - dropped); i += XP_THREADS)
        if (search.costs[i] == least) found = min(found, i);
    found = __reduce_min_sync(0xFFFFFFFFu, found);
    __syncthreads();  // a warp may not have read yet what the last step left there
    if (!(threadIdx.x & 31)) search.lows[threadIdx.x >> 5] = found;
    __syncthreads();
    const int lane = threadIdx.x & 31;
    return __reduce_min_sync(0xFFFFFFFFu, lane < XP_THREADS / 32 ? (int)search.lows[lane] : XP_WINDOWS);
}

// Follows the survivors from window `last` after n steps back to the window before step `until`; all threads get it.
__device__ __forceinline__ int xp_trace(const Search& search, int begin, int n, int until, int last, unsigned char* path) {
    constexpr int held = xp_most(XP_STAGED / XP_STRIDE, 1);
    while (n > until) {
        const int from = max(until, n - held);
        __syncthreads();
        if (XP_STRIDE <= XP_STAGED)
            for (int w = threadIdx.x; w < (n - from) * XP_STRIDE; w += XP_THREADS) search.staged[w] = search.survivors[(i64)from * XP_STRIDE + w];
        __syncthreads();
        const u32* words = XP_STRIDE <= XP_STAGED ? search.staged : search.survivors + (i64)from * XP_STRIDE;
        if (!threadIdx.x) {
            for (int t = n - 1; t >= from; --t) {
                const int step = begin + t < search.n_steps ? begin + t : begin + t - search.n_steps;
                const int dropped = xp_new(search.news, step + 1 == search.n_steps ? 0 : step + 1);
                const int shared = XP_WINDOW - xp_new(search.news, step) - dropped;
                const u32* own = words + (t - from) * XP_STRIDE + (last >> 5) * dropped;
                int branch = 0;
                for (int k = 0; k < dropped; ++k) branch |= (int)(own[k] >> (last & 31) & 1) << k;
                if (path) path[step] = (unsigned char)(last >> shared);
                last = (last & (1 << shared) - 1) << dropped | branch;
            }
            search.lows[0] = last;
        }
        n = from;
        __syncthreads();
        last = search.lows[0];
    }
    return last;
}

extern "C" __global__ void __launch_bounds__(XP_THREADS, XP_BLOCKS)
trellis_search(const short* targets, const short* weights, const u32* kinds, const short* levels,
    const int* firsts, const int* news, i64 n_columns, i64 rows, i64 n_steps, i64 edge, u32* survivors, Cost* costs, unsigned char* path) {
    u32* memory = xp_shared();
    Search search;
    search.firsts = firsts, search.news = news, search.levels = levels, search.n_steps = (int)n_steps;
    search.lows = memory, search.staged = memory + 64;
    search.costs = XP_GLOBAL ? costs + (i64)blockIdx.x * 2 * XP_WINDOWS : (Cost*)(memory + 64 + XP_STAGE);
    search.survivors = survivors + (i64)blockIdx.x * max(n_steps, 2 * edge) * XP_STRIDE;
    for (i64 column = blockIdx.x; column < n_columns; column += gridDim.x) {
        if (!kinds[column]) continue;
        search.targets = targets + column * rows, search.weights = weights + column * rows, search.weighted = kinds[column] == 2;
        int state = -1;
        for (int around = 1; around >= 0; --around) {  // the seam, then all steps
            const int begin = around ? (int)(n_steps - edge) : 0, n = (int)(around ? 2 * edge : n_steps);
            const int least = xp_run(search, begin, n, state);
            if (around) state = xp_first(search, xp_new(news, edge == n_steps ? 0 : (int)edge), least);
            state = xp_trace(search, begin, n, around ? (int)edge : 0, state, around ? nullptr : path + column * n_steps);
        }
    }
}

// A warp for each chunk of 32 columns and 32 steps.
extern "C" __global__ void __launch_bounds__(256) trellis_words(const unsigned char* path, const u32* kinds, const int* news, const int* places,
    i64 n_columns, i64 n_steps, u32* code) {
    const i64 chunks = (n_columns + 31) / 32, spans = (n_steps + 31) / 32;
    const int lane = threadIdx.x & 31;
    for (i64 item = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32; item < chunks * spans; item += (i64)gridDim.x * blockDim.x / 32) {
        const i64 chunk = item % chunks, first = item / chunks * 32, column = chunk * 32 + lane;
        const bool known = column < n_columns && kinds[column];
        for (i64 step = first; step < min(first + 32, n_steps); ++step) {
            const u32 bits = known ? path[column * n_steps + step] : 0;
            for (int k = 0; k < news[step]; ++k) {
                const u32 word = __ballot_sync(0xFFFFFFFFu, bits >> k & 1);
                if (!lane) code[(places[step] + k) * chunks + chunk] = word;
            }
        }
    }
}
