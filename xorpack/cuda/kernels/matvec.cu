// matvec, then finish: the fused product by tables of sums, one column of activations at a time.
//
//   y[r] = sum_k alpha_k * (2 * <b_k & m, x> - <m, x>)      per group of columns that share scales, m the mask
//
//   XP_FIELDS    the 32 activations of a chunk are cut into 4 fields of 8, or 5 of 7, 7, 6, 6, 6; every sum over a
//                subset of a field's activations stands in a table
//   XP_WARPS     warps of a block
//   XP_GROUP_SHIFT   where groups of 2^XP_GROUP_SHIFT chunks begin with the panel (5: one group a panel); else -1
//
// In:      order, code, taps, mask, scales; x (n, cols), type x_type, x_stride elements from row to row. A group of
//          scales must not end inside a chunk.
// Out:     partial[column * n_panels * rows + v], float32: the visit's share of the product; finish adds the panels
//          of a row from first to last, then its corrections, and rounds.
// Launch:  grid (blocks, n), XP_WARPS * 32 threads, 128 bytes of shared memory for each of 1024 (448) sums. Visits
//          are shared out evenly, in order: a block builds the tables of a panel once and again only where its share
//          crosses into the next; its warps walk consecutive visits.
// Fixed order: a word's fields, then 8 visits' words by a butterfly of fixed partners; no atomics: the same input
//          gives the same bits for the same grid.
// Bytes:   code + mask + scales once from memory, end to end; partial written and read, 4 * n_panels bytes a row.
//
// Instructions of a step, 32 words of 32 weights, counted in the machine code for sm_90 (q = 2, groups of 128): 89, of
// them 43 for integers, with a quasi-cyclic network; 72 with a turned one. Whether they or the bytes above, 1.45 bits a weight at S = .9, bound it has not been measured:
//   lookups   33: 3 words * (4 PRMT + 4 LDS + 3 FADD). A byte of a word is an index as it is: entry e of field f
//             lies at e * 256 + (f & 1) * 128 + 4 k, so that one PRMT makes the address, and lane k reads bank k: no
//             conflicts
//   network   18: 2 planes * (6 SHF, or 1, + 3 LOP3, the mask's AND in the last), from registers; 46 more where the
//             window moves, every tenth step
//   the rest  about 38: mask and scales (loaded 8 visits ahead), addresses, conversion, 4 FFMA, reduction, loop
// 16 warps have 8 mask words and 8 pairs of scales in flight each, 20 KB.
// Oracle:  reference.decode_planes and a product in float64.

#ifndef XP_FIELDS
#define XP_FIELDS 4
#endif
#ifndef XP_GROUP_SHIFT
#define XP_GROUP_SHIFT -1
#endif
#ifndef XP_WARPS
#define XP_WARPS 16
#endif

// 1: lookups of one pair of visits end before those of the next begin. For sm_120 the compiler moves so many ahead that
// registers run out: 131 instead of 135 instructions, 72 instead of 216 bytes spilled at q 2. Others take more with it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
#define XP_APART 1
#else
#define XP_APART 0
#endif

__device__ __forceinline__ constexpr int xp_width(int f) {
    return XP_FIELDS == 4 ? 8 : f < 2 ? 7 : 6;
}

__device__ __forceinline__ constexpr int xp_shift(int f) {
    return XP_FIELDS == 4 ? 8 * f : f < 2 ? 7 * f : 2 + 6 * f;
}

// Index, in floats, of the sum of no activations of field f, chunk 0; and from entry to entry.
__device__ __forceinline__ constexpr int xp_base(int f) {
    return XP_FIELDS == 4 ? (f >> 1) * 16384 + (f & 1) * 32 : f < 2 ? f * 4096 : 8192 + (f - 2) * 2048;
}

__device__ __forceinline__ constexpr int xp_entry() {
    return XP_FIELDS == 4 ? 64 : 32;
}

// Tables of a panel: lane k has chunk k, warps share out the entries. Sums run from the lowest activation up.
__device__ __forceinline__ void xp_build(const Order& o, float* table, const void* x, int x_type, i64 x_at, i64 p) {
    const int k = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const i64 first = (p * o.panel_chunks + k) * 32;
#pragma unroll
    for (int f = 0; f < XP_FIELDS; ++f) {
        float values[8];
#pragma unroll
        for (int b = 0; b < xp_width(f); ++b) {
            const i64 col = first + xp_shift(f) + b;
            values[b] = k < o.panel_chunks && col < o.cols ? xp_load(x, x_at + col, x_type) : 0.0f;
        }
        float low[16];
#pragma unroll
        for (int e = 0; e < 16; ++e) {
            low[e] = 0.0f;
#pragma unroll
            for (int b = 0; b < 4; ++b)
                if (e >> b & 1) low[e] += values[b];
        }
        for (int high = warp; high < 1 << (xp_width(f) - 4); high += XP_WARPS) {
            float sum = 0.0f;
#pragma unroll
            for (int b = 4; b < xp_width(f); ++b)
                if (high >> (b - 4) & 1) sum += values[b];
#pragma unroll
            for (int e = 0; e < 16; ++e) table[xp_base(f) + (high * 16 + e) * xp_entry() + k] = low[e] + sum;
        }
    }
}

// Sum of the activations of chunk k at the ones of a word; column is 4 k.
__device__ __forceinline__ float xp_sum(const float* table, u32 word, u32 column) {
    float sums[XP_FIELDS];
#pragma unroll
    for (int f = 0; f < XP_FIELDS; ++f) {
        u32 at;
        if (XP_FIELDS == 4) at = __byte_perm(word, column, 0x5504 | f << 4);
        else at = (word >> xp_shift(f) & ((1 << xp_width(f)) - 1)) * (4 * xp_entry()) | column;
        sums[f] = *(const float*)((const char*)(table + xp_base(f)) + at);
    }
    if (XP_FIELDS == 4) return (sums[0] + sums[1]) + (sums[2] + sums[3]);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]) + sums[XP_FIELDS - 1];
}

// Sums 8 values over the warp; lane l gets the sum of value l / 4.
__device__ __forceinline__ float xp_reduce(float (&values)[8], int lane) {
#pragma unroll
    for (int half = 4; half >= 1; half /= 2) {
        const bool upper = lane & (4 * half);
#pragma unroll
        for (int j = 0; j < half; ++j) {
            const float give = upper ? values[j] : values[j + half];
            const float keep = upper ? values[j + half] : values[j];
            values[j] = keep + __shfl_xor_sync(0xFFFFFFFF, give, 4 * half);
        }
    }
    values[0] += __shfl_xor_sync(0xFFFFFFFF, values[0], 2);
    return values[0] + __shfl_xor_sync(0xFFFFFFFF, values[0], 1);
}

// Mask word and scales of a visit's word.
struct Side {
    u32 kept;
    Alphas alphas;
};

// A word's share of the product; `words` are 0 where the mask is.
__device__ __forceinline__ float xp_share(const float* table, const u32 (&words)[XP_ARRAY], const Side& side,
                                          u32 column) {
    const float all = xp_sum(table, side.kept, column);
    float share = 0.0f;
    int coded = 0;
#pragma unroll
    for (int j = 0; j < XP_BITS; ++j) {
        float ones = all;
        if ((u32)XP_ZEROS >> j & 1) ones = 0.0f;
        else if (!((u32)XP_ONES >> j & 1)) ones = xp_sum(table, words[coded++], column);
        share = fmaf(side.alphas.alpha(j), fmaf(2.0f, ones, -all), share);
    }
    return share;
}

#if XP_UNROLLED
// Where the mask and scales of a run's visits lie. Arrays are padded: chunks that do not exist read scales that do and
// a mask of 0, and visits just outside the run may be read, for nothing.
struct Sides {
    const u32* mask;     // of the run's first visit
    const char* scales;  // of the first visit and the panel's first group
    u32 mask_step, scale_step;  // from visit to visit, in words and bytes
    u32 limit;                  // chunks of the panel that exist
    u32 lead;                   // chunks of the panel's first group that lie before the panel
    u32 by_many;  // 2^24 / chunks of a group, up: below 4000 of them, or one group (XP_UNROLLED asks for it)
    i64 tail;     // columns from the panel's first on

    __device__ __forceinline__ void begin(const Order& o, const u32* words, const Scales& s, i64 p, i64 i) {
        const bool one = o.cols <= s.group;
        const i64 chunk = p * o.panel_chunks, many = s.group / 32, before = one ? 0 : chunk / many;
        limit = (u32)max(0ll, min(o.panel_chunks, o.chunks - chunk));
        lead = one ? 0 : (u32)(chunk - before * many);
        by_many = one ? 0 : (u32)(((1 << 24) + many - 1) / many);
        mask = words + (p * o.rows + i) * o.panel_chunks + (XP_SKEW ? threadIdx.x & 31 : 0);
        mask_step = (u32)o.panel_chunks;
        scales = (const char*)s.data +
                 (p * s.panel + i * s.row + (before - p * s.groups_per_panel) * XP_BITS) * XP_SCALE_BYTES;
        scale_step = (u32)s.row * XP_SCALE_BYTES;
        tail = o.cols - 32 * chunk;
    }

    // Of word k of the visit that is `e` behind the one that `words` and `alphas` are of.
    __device__ __forceinline__ void load(Side& side, const u32* words, const char* alphas, int e, u32 k) const {
        u32 word = 0;
#if XP_MASK && XP_SKEW
        word = words[e * 32];
#elif XP_MASK
        if (k < limit) word = words[e * mask_step + k];
#else
        if (k < limit) word = tail - 32ll * k >= 32 ? 0xFFFFFFFF : (1u << (tail - 32 * k)) - 1;
#endif
#if XP_GROUP_SHIFT >= 0
        const u32 g = k >> XP_GROUP_SHIFT;
#else
        const u32 g = (k + lead) * by_many >> 24;
#endif
        side.kept = word;
        side.alphas.load(alphas + (e * scale_step + g * (XP_BITS * XP_SCALE_BYTES)));
    }
};
#endif

// Visits i_first .. i_last - 1 of panel p, by one warp.
__device__ __forceinline__ void xp_run(const Order& o, const u32* code, const u32* taps, const u32* mask,
                                       const Scales& scales, const float* table, i64 p, i64 i_first, i64 i_last,
                                       float* partial) {
    const int lane = threadIdx.x & 31;
    u32 words[XP_ARRAY];
    partial += p * o.rows + i_first;
#if XP_UNROLLED
    float shares[8];
    for (i64 i = i_first; i < i_last;) {
        i64 first;
        const i64 segment = xp_divide(p * o.rows + i, o.n_steps, o.by_steps, first);
        const int n = (int)min(o.n_steps - first, i_last - i);  // visits of this segment
        // Blocks of 8 steps begin at multiples of 8 in the segment; what they do outside the run is not stored.
        int block = -(int)(first & 7);
        int skip = (int)(first / 8 % (XP_DISTINCT / 8));
        Walk walk;
        walk.begin(o, code, segment, first + block);
        Sides sides;
        sides.begin(o, mask, scales, p, i);
        Side side[8];
        const int turned = lane + (int)(i & 31);  // visit e of the run has word (turned + e) % 32
#pragma unroll
        for (int e = 0; e < 8; ++e)
            sides.load(side[e], sides.mask + (i64)block * sides.mask_step,
                       sides.scales + (i64)block * sides.scale_step, e, (turned + block + e) & 31);
        while (block < n) {
#pragma unroll
            for (int h = 0; h < XP_DISTINCT / 8; ++h) {
                if (h < skip || block >= n) continue;
                // The place of a visit's mask and scales is free, after use, for those of the visit 8 later.
                const int soon = min(block + 8, n - 1);
                const u32* next_mask = sides.mask + (i64)((u64)soon * sides.mask_step);
                const char* next_scales = sides.scales + (i64)((u64)soon * sides.scale_step);
#pragma unroll
                for (int e = 0; e < 8; ++e) {
                    const u32 k = (u32)(turned + block + e) & 31;
                    walk.words(8 * h + e, side[e].kept, words);
                    walk.step(8 * h + e);
                    shares[e] = xp_share(table, words, side[e], 4 * k);
                    sides.load(side[e], next_mask, next_scales, e, (k + 8) & 31);
                    if (XP_APART && e % 2) __syncwarp();
                }
                const float sum = xp_reduce(shares, lane);
                const int at = block + lane / 4;
                if (lane % 4 == 0 && (u32)at < (u32)n) partial[at] = sum;
                block += 8;
            }
            skip = 0;
        }
        i += n, partial += n;
    }
#else
    const i64 col = (p * o.panel_chunks + lane) * 32;
    const bool exists = lane < o.panel_chunks && col < o.cols;
    for (i64 i = i_first; i < i_last; ++i) {
        float share = 0.0f;
        if (exists) {
            Side side;
            side.kept = xp_mask(o, mask, p, i, lane);
            side.alphas.load((const char*)scales.data + scales.at(p, i, col) * XP_SCALE_BYTES);
            xp_words(o, code, taps, p, i, lane, words);
#pragma unroll
            for (int j = 0; j < XP_ARRAY; ++j) words[j] &= side.kept;
            share = xp_share(table, words, side, 4 * lane);
        }
#pragma unroll
        for (int distance = 16; distance >= 1; distance /= 2) share += __shfl_xor_sync(0xFFFFFFFF, share, distance);
        if (lane == 0) partial[i - i_first] = share;
    }
#endif
}

extern "C" __global__ void __launch_bounds__(XP_WARPS * 32, 1)
matvec(XP_ORDER, const u32* __restrict__ code, const u32* __restrict__ taps, const u32* __restrict__ mask, XP_SCALES,
       const void* __restrict__ x, i64 x_type, i64 x_stride, float* __restrict__ partial) {
    const Order o = {XP_ORDER_NAMES};
    const Scales scales = {XP_SCALES_NAMES};
    float* table = (float*)xp_shared();
    const int warp = threadIdx.x >> 5;
    const i64 visits = o.n_panels * o.rows;
    const i64 share = (visits + gridDim.x - 1) / gridDim.x;
    const i64 end = min(visits, (blockIdx.x + 1) * share);
    for (i64 v = blockIdx.x * share; v < end;) {
        const int p = (int)(v / o.rows);
        const i64 until = min(end, (p + 1) * o.rows);
        __syncthreads();
        xp_build(o, table, x, (int)x_type, blockIdx.y * x_stride, p);
        __syncthreads();
        // Warps change at multiples of 8 steps of the segment that v is in.
        const i64 early = XP_UNROLLED ? v % o.n_steps & 7 : 0;
        const i64 each = ((until - v + early + XP_WARPS - 1) / XP_WARPS + 7) & ~7ll;
        const i64 first = max(v, min(until, v - early + warp * each));
        const i64 last = max(v, min(until, v - early + (warp + 1) * each));
        xp_run(o, code, taps, mask, scales, table, p, first - p * o.rows, last - p * o.rows,
               partial + blockIdx.y * visits);
        v = until;
    }
}
