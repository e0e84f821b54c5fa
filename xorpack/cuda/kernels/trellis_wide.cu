// wide_activations, trellis_wide, then trellis_finish: a trellis tensor without a mask by 256 columns at a time, weights
// decoded once for them, into operands of asynchronous tensor cores. Behind wide.cu, trellis.cu and levels.cu.
//
//   XP_X        activations, and what weights are rounded to: 1 float16; 2 bfloat16
//   XP_STAGES   of 32 KB that shared memory has room for beside the table
//
// Numbers are those of trellis_matmul.cu: levels in a table by the bits of planes, rounded, with the scale behind the
// sum. The table has a level twice for each lane, as the lower and as the upper half of a word, at level * 256 + lane * 4
// and 128 bytes further: no two lanes meet in a bank; the table begins at a multiple of 64 KB, so that one permutation
// of bytes makes an address.
//
// Lane g has rows 2 g and 2 g + 1 of the warp's 16, whose windows overlap: needs XP_N_OUT 1 or 2. Stored words of the
// next quad are loaded a quad ahead.
//
// XP_OUTLIERS 1: an outlier is a level of its own, by the row's scale, in one of 8 more places of the table that a lane of a warp
// has for itself: there are no more in a chunk of two rows. XP_BITS is 7 at the most, and there are no gains.
//
// Out:    finished 0: out[(column * parts + part) * rows + r], float32, of part_quads quads each, without the scale. Else there
//         is one part, and the product itself, as trellis_finish has it, goes to out[column * stride + r], of `type`.
// Launch: grid (ceil(rows / 128), parts, ceil(n / 256)), 384 threads; shared memory: 65536 + XP_TABLE_BYTES +
//         XP_STAGES * 32768 bytes. Compute capability 9.0 alone.
// Account, counted in the machine code at R 2 (q 6), for 4096 weights by 256 columns, which take 2048 clocks of the tensor
//         cores of a scheduler (512 sums a clock): 894 instructions (1098 where there are outliers), some 506 of them by the integer units, which take two
//         clocks each; 128 lookups, 28 loads of code, 32 products. Shared memory of a multiprocessor, for 4 * 4096 weights in
//         those 2048 clocks: 1024 to read activations, 512 to write them, 512 for lookups, some 112 for code, 2160 in all; tiles of
//         128 x 256 of a dense product in shared memory have 2048. From the L2 cache 64 KB of activations and 4 to 9 of code:
//         33 to 36 bytes a clock and multiprocessor, as much as a dense product of clusters of two, which this one is not. So tensor cores
//         bound it, or shared memory, by 1.05; with 6 of 198 thousand clocks to begin and store a block of 49152 x 12288
//         it is 1.03 to 1.1 times a dense product at perfect issue, where the L2 cache keeps up. Nothing is measured.
// Oracle: reference.decode_planes and a product in float64.

#ifndef XP_EARLY
#define XP_EARLY 1
#endif
#ifndef XP_OUTLIERS
#define XP_OUTLIERS 0
#endif
#define XP_TABLE_BYTES ((1 << XP_BITS) + 64 * XP_OUTLIERS << 8)
#define XP_LATER (XP_N_IN / XP_N_OUT)  // stored words that an odd row is behind an even one
#define XP_LOADED (XP_WINDOW + XP_LATER)

struct Levels {
    const char* code;
    i64 chunks;
    u32 t, stride, m;  // bytes from a stored word to the next one of its chunk; stored words of a chunk
    u32 newest;        // stored word of this lane's later row
    u32 table;         // where this lane has levels
    i64 even;          // its first row
    u32 next[XP_LOADED];
    u32 places[2][8];
#if XP_OUTLIERS
    const u32* starts;  // of this lane's rows
    const unsigned short *entries, *values;
    u32 at[2], until[2];  // outliers of its rows that are next, and the end of those in this tile
    float inverse[2];     // what they are multiplied by: a level is all but the row's scale

    __device__ __forceinline__ u32 seek(u32 low, u32 high, u32 entry) const {
        while (low < high) {
            const u32 middle = low + (high - low) / 2;
            if (entries[middle] < entry) low = middle + 1;
            else high = middle;
        }
        return low;
    }

    __device__ __forceinline__ void tile(i64 row, i64 quad) {
        const u32* own = starts + quad / 16;
        for (int c = 0; c < 2; ++c) {
            const u32 first = (u32)(row + c & 31) << 11;
            at[c] = seek(own[0], own[1], first + (u32)(quad & 15) * 128);
            until[c] = seek(at[c], own[1], first + 2048);
        }
    }

    // Outliers of row c in a quad get levels of their own, from number `slot` on: their planes say which.
    template <int C> __device__ __forceinline__ void mend(i64 quad, u32& slot) {
        for (; at[C] < until[C]; ++at[C]) {
            const u32 col = entries[at[C]] & 2047;
            if (col >> 7 != (u32)(quad & 15)) return;
            if ((col >> 5 & 3) != t) continue;
            const u32 level = xp_rounded(xp_times(xp_from_half(values[at[C]]), inverse[C]), XP_X, XP_X);
            xp_shared_store(table + slot * 256, level);
            xp_shared_store(table + slot * 256 + 128, level << 16);
            const u32 bit = 1u << (col & 31);
#pragma unroll
            for (int j = 0; j < 8; ++j) places[C][j] = slot >> j & 1 ? places[C][j] | bit : places[C][j] & ~bit;
            ++slot;
        }
    }
#endif

    __device__ __forceinline__ void load(i64 quad) {
        const char* first = code + 4 * min(4 * quad + t, chunks - 1);
        u32 i = newest;
#pragma unroll
        for (int age = 0; age < XP_LOADED; ++age) {
            next[age] = *(const u32*)(first + (u64)i * stride);
            i = min(i - 1, m - 1);
        }
    }

    __device__ __forceinline__ void begin(const Weights& w, i64 row0, u32 levels) {
        even = min(row0 + (threadIdx.x >> 2 & 7) * 2, (w.rows - 1) & -2ll);
        const i64 later = even + 1;
        code = (const char*)w.code, chunks = w.chunks, t = threadIdx.x & 3;
        stride = (u32)(4 * chunks), m = (u32)w.m;
        newest = (u32)((((later + 1) * XP_N_IN + XP_N_OUT - 1) / XP_N_OUT - 1) % w.m);
        table = levels + (threadIdx.x & 31) * 4;
    }

    __device__ __forceinline__ void quad(i64 quad) {
        if (!XP_EARLY) load(quad);
#pragma unroll
        for (int row = 0; row < 2; ++row) {
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                u32 word = 0;
#pragma unroll
                for (int age = 0; age < XP_WINDOW; ++age)
                    if (j < XP_BITS && xp_network[row % XP_N_OUT][j < XP_BITS ? j : 0] >> age & 1) word ^= next[age + (row ? 0 : XP_LATER)];
                places[row][j] = word;
            }
        }
#if XP_OUTLIERS
        u32 slot = (1 << XP_BITS) + (threadIdx.x >> 5) * 8;
        if ((quad & 15) == 0) tile(even, quad);
        mend<0>(quad, slot);
        mend<1>(quad, slot);
#endif
        xp_transpose(places[0]);
        xp_transpose(places[1]);
        if (XP_EARLY) load(quad + 1);
    }

    __device__ __forceinline__ void operands(int first, u32 (&a)[XP_GROUP][4]) const {
#pragma unroll
        for (int u = 0; u < XP_GROUP; ++u) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const u32 bytes = places[e & 1][first + u];
                const u32 low = __byte_perm(bytes, table, 0x7604 + (2 * (e >> 1) << 4));
                const u32 high = __byte_perm(bytes, table, 0x7604 + (2 * (e >> 1) + 1 << 4));
                a[u][e] = xp_shared_word<0>(low) | xp_shared_word<128>(high);
            }
        }
    }
};

extern "C" __global__ void __launch_bounds__(XP_THREADS, 1)
trellis_wide(i64 rows, i64 chunks, const u32* __restrict__ code, i64 m, const float* __restrict__ a, u64 largest,
             const void* __restrict__ scales, const u32* __restrict__ starts, const unsigned short* __restrict__ entries,
             const unsigned short* __restrict__ values, i64 tiles, u64 outlier_unit, i64 finished, i64 type, i64 stride, const char* __restrict__ activations, i64 n, i64 quads,
             i64 part_quads, void* __restrict__ out) {
    Weights w;
    w.rows = rows, w.chunks = chunks, w.code = code, w.m = m;
    u32* table = (u32*)xp_aligned();
    const u32 exponent = xp_level_exponent(a);
    for (int at = threadIdx.x; at < 64 << XP_BITS; at += XP_THREADS)
        table[at] = xp_level(a, at >> 6, exponent) << (at & 32 ? 16 : 0);
    Stages stages;
    stages.begin((char*)xp_shared(), (char*)table + XP_TABLE_BYTES);
    __syncthreads();
    const i64 first = blockIdx.y * part_quads, last = min(quads, first + part_quads);
    const int warp = threadIdx.x >> 5;
    if (warp >= XP_COPIER) {
        xp_registers_give();
        if (threadIdx.x == 32 * XP_COPIER)
            stages.copy(activations + (blockIdx.z * quads + first) * (2 * XP_STAGE_BYTES), 2 * (last - first));
        return;
    }
    xp_registers_take();
    const i64 row0 = blockIdx.x * (i64)XP_BLOCK_ROWS + warp * 16;
    Levels weights;
    weights.begin(w, row0, xp_shared_address(table));
    if (XP_EARLY) weights.load(first);
#if XP_OUTLIERS
    weights.starts = starts + (weights.even >> 5) * tiles, weights.entries = entries, weights.values = values;
    for (int c = 0; c < 2; ++c) {
        const float scale = xp_load(scales, min(weights.even + c, rows - 1), XP_SCALE);
        weights.inverse[c] = __uint_as_float((u32)outlier_unit) * __uint_as_float((254 - exponent) << 23) / scale;
    }
    weights.tile(weights.even, first);
#endif
    float sums[128];
    xp_multiply(weights, stages, first, last, sums);
    const float factor = xp_level_factor(exponent, largest);
    float factors[2] = {factor, factor};
    if (!finished) {
        xp_store_sums<0>(sums, factors, row0, rows, n, (float*)out + blockIdx.y * rows, gridDim.y * rows);
        return;
    }
    const i64 row = row0 + (threadIdx.x >> 2 & 7) * 2;
#pragma unroll
    for (int c = 0; c < 128; ++c) sums[c] *= factor;
#pragma unroll
    for (int c = 0; c < 2; ++c) factors[c] = row + c < rows ? xp_load(scales, row + c, XP_SCALE) : 0.0f;
    if (type == 0) xp_store_sums<0>(sums, factors, row0, rows, n, out, stride);
    else if (type == 1) xp_store_sums<1>(sums, factors, row0, rows, n, out, stride);
    else xp_store_sums<2>(sums, factors, row0, rows, n, out, stride);
}
