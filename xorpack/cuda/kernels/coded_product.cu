// coded_product, then finish: the fused product by binary tensor cores, of planes that are coded one by one. Behind
// binary.cu; digits goes before it.
//
//   y[r] = sum_k alpha_k * (2 * <b_k & m, X> - <m, X>)      per group of columns that share scales, m the mask
//
//   XP_GROUP_SHIFT   groups of 2^XP_GROUP_SHIFT chunks begin with the panel: 2, 3 or 4; 5: a panel has one
//   XP_BLOCKS        blocks that a multiprocessor has registers for
//   XP_SOON          visits before its own that a word of the mask is loaded: 8 or 16
//   XP_PRODUCTS, XP_COPIES   as digits has them
//   XP_ONE           1: one column of activations, whose digits stay in registers; 0: any number of columns
//
// X are the digits of binary.cu. Needs XP_UNROLLED, and XP_DISTINCT that divides 32.
//
// A warp decodes 16 visits of a panel as matvec does, a row a step, lane l chunk (l + i) % 32. The mask's words and all
// planes' go through shared memory, from which lane (g, t) takes rows g and g + 8, chunks t, t + 4, t + 8, .. : operands
// as they are.
//
// Numbers whose sums are taken are whole until they are multiplied by a scale: of a digit, below 2^17. Sums over planes
// and groups, then digits, then panels and corrections are float32 in a fixed order: the same input gives the same bits,
// whatever the launch. Where every group has sums to be joined, digits of few figures are cheaper, which are counted twice
// by two products each (XP_COPIES 2): 4 products and 6 instructions join what takes 3 and 10 otherwise. Where an activation of a panel is infinite or NaN,
// products of all rows are NaN.
//
// Out:    partial[(column * n_panels + p) * rows + i], float32
// Launch: grid (blocks), 32 threads, 2048 * XP_WORDS bytes of shared memory. Blocks share out visits in order. They are
//         warps, so that the compiler knows that branches are taken by all lanes alike.
// Bytes:  code + mask + scales once from memory; partial written and read, 4 * n_panels bytes a row and column.
// Instructions for 1024 weights: 22 at q 2, 28 at q 3 with row scales and a turned network on sm_90, 41 and 55 with groups
//         of 128, counted in the machine code by tests/sass.py; of them 10 and 15 rotations and XORs, 2.25 and 3
//         products, of groups 6 and 8 of half the depth. Where the window moves by a word 43 and 59 more; each column
//         more takes 9 and 11. Quasi-cyclic networks: 36 and 47, of them 21 and 31.
// Oracle: reference.decode_planes and a product in float64.

#ifndef XP_GROUP_SHIFT
#define XP_GROUP_SHIFT 5
#endif
#ifndef XP_BLOCKS
#define XP_BLOCKS 12
#endif
#ifndef XP_ONE
#define XP_ONE 1
#endif
#ifndef XP_SOON
#define XP_SOON 16
#endif
#define XP_WORDS (XP_ARRAY + XP_MASK)  // of a chunk: those of the planes, then the mask's
#define XP_OPERANDS (4 * XP_PRODUCTS * XP_COPIES)
#define XP_SCARCE (XP_BLOCKS > 8 && XP_GROUP_SHIFT < 5 && !XP_TURNED)  // of 168 registers 32 hold digits

#if XP_UNROLLED
// The words of 16 visits on their way from lanes that decode rows to lanes that have operands. Words n and n + 1 of a
// chunk are stored at once and are rows g and g + 8 of an operand; of an odd number of words the last has rows u and
// u + 8 there instead. Row u of a pair is 16 operands of 16 bytes, (part, t) at place part * 4 + t ^ (u & 1) << 2, which
// no two lanes take from the same banks, nor store to; two lanes store the word without a partner to one bank.
//
// A tile later lanes have other chunks: 16 more, modulo 32. Words go where they went before, so that 16 registers know the
// places once and for all, and parts have moved. Where registers are scarce, places move: they must be found in each visit.
struct Tile {
    char* bytes;
    u32 places[4];  // of visits 4 n .. 4 n + 3, in bytes: where a chunk lies in a row
    u32 parts[4];   // where an operand's words of row u lie

    // `k`: the chunk of this lane in the first of 16 visits.
    __device__ __forceinline__ void begin(int k) {
        const u32 u = threadIdx.x >> 2 & 7, t = threadIdx.x & 3;
#pragma unroll
        for (int n = 0; n < 4; ++n) {
            const u32 chunks = (k & 31) * 0x01010101u + 0x04040404u * n + 0x03020100u & 0x1F1F1F1Fu;
            places[n] = ((chunks & 0x03030303u) << 4 | (chunks & 0x04040404u) << 1 | (chunks & 0x18181818u) << 3) ^ 0x40004000u;
            parts[n] = u * 256 + ((n ^ u & 1) << 6 | t << 4);
        }
    }

    // To the next 16 visits.
    __device__ __forceinline__ void go_on() {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
            if (XP_SCARCE) places[n] ^= 0x80808080u;
            else parts[n] ^= 0x80;
        }
    }

    // All words of a chunk in visit e.
    __device__ __forceinline__ void store(int e, const u32 (&all)[XP_WORDS]) const {
        char* to = bytes + __byte_perm(places[e >> 2], 0, 0x4440 + (e & 3));
#pragma unroll
        for (int n = 0; n + 1 < XP_WORDS; n += 2) *(uint2*)(to + n * 2048 + e * 256) = make_uint2(all[n], all[n + 1]);
        if (XP_WORDS & 1) *(u32*)(to + (XP_WORDS - 1) * 2048 + (e & 7) * 256 + (e >> 3) * 4) = all[XP_WORDS - 1];
    }

    // An operand: chunks 8 part + t and 8 part + 4 + t. Of words n and n + 1 in visit g + 8 eight, or of the last word.
    __device__ __forceinline__ void load(int n, int eight, int part, u32 (&a)[4]) const {
        const uint4 found = *(const uint4*)(bytes + parts[part] + (n + eight) * 2048);
        a[0] = found.x, a[1] = found.y, a[2] = found.z, a[3] = found.w;
    }
};

// A panel's mask words of visits, as they lie.
struct Kept {
    const u32* words;  // of the first visit of a run
    i64 tail;          // columns from the panel's first on
    u32 limit;         // chunks of the panel that exist

    __device__ __forceinline__ u32 load(const Order& o, i64 visit, u32 k) const {
#if XP_MASK && XP_SKEW
        return words[visit * 32];
#elif XP_MASK
        return k < limit ? words[visit * o.panel_chunks + k] : 0;
#else
        return k >= limit ? 0 : tail - 32ll * k >= 32 ? 0xFFFFFFFF : (1u << (tail - 32 * k)) - 1;
#endif
    }
};

// 16 visits, of which the first is step First modulo XP_DISTINCT: k is the chunk of this lane in the first, `block` and `soon`
// are the first of this tile and of the next.
template <int First>
__device__ __forceinline__ void xp_decode(const Order& o, Walk& walk, const Tile& tile, int k, const Kept& mask, i64 block,
                                          i64 soon, u32 (&kept)[XP_SOON]) {
#pragma unroll
    for (int e = 0; e < 16; ++e) {
        u32 words[XP_ARRAY], all[XP_WORDS];
        u32& own = kept[e % XP_SOON];
        walk.words((First + e) % XP_DISTINCT, own, words);
#pragma unroll
        for (int j = 0; j < XP_ARRAY; ++j) all[j] = words[j];
        if (XP_MASK) all[XP_WORDS - 1] = own;
        tile.store(e, all);
        walk.step((First + e) % XP_DISTINCT);
        const int next = e + XP_SOON;
        own = mask.load(o, next < 16 ? block + next : soon + (next - 16), (k + next) & 31);
    }
}

// The scales of a row's groups in a panel, as they lie in memory.
struct RowScales {
    static constexpr int count = (32 >> XP_GROUP_SHIFT) * XP_BITS, words = XP_SCALE ? (count + 1) / 2 : count;
    // Words at a time, 0 where they may begin in the middle of one: rows are side by side, and full where XP_SKEW.
    static constexpr int whole = count * XP_SCALE_BYTES % 4 == 0 ? words % 4 == 0 ? 4 : words % 2 == 0 ? 2 : 1 : 0;
    static constexpr int wide = XP_SKEW ? whole : !XP_SCALE || XP_BITS % 2 == 0;

    u32 raw[words];

    __device__ __forceinline__ void load(const char* from) {
        if (wide == 4) {
#pragma unroll
            for (int n = 0; n + 3 < words; n += 4) {
                const uint4 found = ((const uint4*)from)[n / 4];
                raw[n] = found.x, raw[n + 1] = found.y, raw[n + 2] = found.z, raw[n + 3] = found.w;
            }
        } else if (wide == 2) {
#pragma unroll
            for (int n = 0; n + 1 < words; n += 2) {
                const uint2 found = ((const uint2*)from)[n / 2];
                raw[n] = found.x, raw[n + 1] = found.y;
            }
        } else {
#pragma unroll
            for (int n = 0; n < words; ++n) {
                const unsigned short* halves = (const unsigned short*)from + 2 * n;
                if (wide) raw[n] = ((const u32*)from)[n];
                else raw[n] = halves[0] | (2 * n + 1 < count ? (u32)halves[1] << 16 : 0);
            }
        }
    }

    __device__ __forceinline__ float alpha(int group, int j) const {
        const int n = group * XP_BITS + j;
        return XP_SCALE ? xp_from_half((unsigned short)(raw[n / 2] >> 16 * (n & 1))) : __uint_as_float(raw[n]);
    }
};

// The digits of one column times the words of a tile, added to y of rows g and g + 8, digit t.
template <class Digits>
__device__ __forceinline__ void xp_multiply(const Tile& tile, const Digits& digits, const RowScales (&scales)[2],
                                            float (&y)[2]) {
    constexpr int groups = 32 >> XP_GROUP_SHIFT, parts = XP_GROUP_SHIFT <= 3 ? 1 : 4 / groups;
#pragma unroll
    for (int group = 0; group < groups; ++group) {
        const int first = XP_GROUP_SHIFT == 2 ? group / 2 : group * parts;
        int sums[2][XP_WORDS + 1];  // of the planes and the mask
        auto count = [&](int n, int eight, int (&found)[2]) {
            int c[XP_PRODUCTS][4];
#pragma unroll
            for (int e = 0; e < 4 * XP_PRODUCTS; ++e) c[e / 4][e % 4] = 0;
#pragma unroll
            for (int part = first; part < first + parts; ++part) {
                u32 a[4] = {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF};
                if (n < XP_WORDS) tile.load(n, eight, part, a);
#pragma unroll
                for (int f = 0; f < XP_PRODUCTS * XP_COPIES; ++f) {
                    int(&sum)[4] = c[f / XP_COPIES];
                    const uint2 b = digits(part * XP_PRODUCTS * XP_COPIES + f);
                    if (XP_GROUP_SHIFT > 2) xp_count(sum, a, b);
                    else if (group % 2 == 0) xp_count_half(sum, a[0], a[1], b.x);
                    else xp_count_half(sum, a[2], a[3], b.y);
                }
            }
            xp_digit(c, found);
        };
        int found[2];
#pragma unroll
        for (int n = 0; n + 1 < XP_WORDS; n += 2)
#pragma unroll
            for (int eight = 0; eight < 2; ++eight) {
                count(n, eight, found);
                sums[eight][n] = found[0], sums[eight][n + 1] = found[1];
            }
        if (XP_WORDS & 1) {
            count(XP_WORDS - 1, 0, found);
            sums[0][XP_WORDS - 1] = found[0], sums[1][XP_WORDS - 1] = found[1];
        }
        if (!XP_MASK) {
            count(XP_WORDS, 0, found);
            sums[0][XP_WORDS] = found[0], sums[1][XP_WORDS] = found[1];
        }
#pragma unroll
        for (int eight = 0; eight < 2; ++eight) {
            const int all = sums[eight][XP_ARRAY];
            int coded = 0;
#pragma unroll
            for (int j = 0; j < XP_BITS; ++j) {
                int sum = all;
                if ((u32)XP_ZEROS >> j & 1) sum = -all;
                else if (!((u32)XP_ONES >> j & 1)) sum = 2 * sums[eight][coded++] - all;
                y[eight] = fmaf(scales[eight].alpha(group, j), (float)sum, y[eight]);
            }
        }
        if (groups > 1) __syncwarp();  // mixed by the compiler, two take more registers than there are
    }
}

// n visits of panel p from i_first on, all of one segment, by one warp.
__device__ __forceinline__ void xp_run(const Order& o, const u32* code, const u32* mask, const Scales& scales, Tile tile, i64 p,
                                       i64 i_first, int n, i64 n_columns, const uint2* fragments,
                                       const float* units, float* partial) {
    const int lane = threadIdx.x & 31, t = lane & 3;
    i64 first;
    const i64 segment = xp_divide(p * o.rows + i_first, o.n_steps, o.by_steps, first);
    // Tiles begin at multiples of 16 in the segment; what they do outside the run is not stored.
    int block = -(int)(first & 15);
    int begins = (int)((first - (first & 15)) % XP_DISTINCT);
    Walk walk;
    walk.begin(o, code, segment, first + block);
    const i64 chunk = p * o.panel_chunks;
    Kept kept_words;
    kept_words.words = mask + (p * o.rows + i_first) * o.panel_chunks + (XP_SKEW ? lane : 0);
    kept_words.tail = o.cols - 32 * chunk;
    kept_words.limit = (u32)max(0ll, min(o.panel_chunks, o.chunks - chunk));
    const int turned = lane + (int)(i_first & 31);
    tile.begin(turned + block);
    u32 kept[XP_SOON];
#pragma unroll
    for (int e = 0; e < XP_SOON; ++e) kept[e] = kept_words.load(o, block + e, (turned + block + e) & 31);
    const char* alphas = (const char*)scales.data + (p * scales.panel + i_first * scales.row) * XP_SCALE_BYTES;
    fragments += p * (XP_OPERANDS * 32) + lane;
#if XP_ONE
    uint2 digits[XP_OPERANDS];
#pragma unroll
    for (int f = 0; f < XP_OPERANDS; ++f) digits[f] = fragments[f * 32];
    const float weight = units[4 * p + t];
#endif
    partial += p * o.rows + i_first;
    for (; block < n; block += 16) {
        const i64 soon = min(block + 16, n - 1);
        const int k = turned + block;
        if (XP_DISTINCT <= 16 || begins == 0) xp_decode<0>(o, walk, tile, k, kept_words, block, soon, kept);
        else xp_decode<16>(o, walk, tile, k, kept_words, block, soon, kept);
        begins = 16 - begins;
        __syncwarp();
        RowScales found[2];
#pragma unroll
        for (int eight = 0; eight < 2; ++eight) {
            const int at = max(0, min(block + (lane >> 2) + 8 * eight, n - 1));
            found[eight].load(alphas + (u64)(u32)at * (u32)(scales.row * XP_SCALE_BYTES));
        }
        // Digits are summed over the four lanes of a row; lane t = 0 ends with row g, 1 with g + 8.
        const int own = block + (lane >> 2) + 8 * t;
        const bool stores = t < 2 && (u32)own < (u32)n;
#if !XP_ONE
        const uint2* from = fragments;
        const float* unit = units + 4 * p + t;
        float* to = partial;
#pragma unroll 1
        for (i64 column = 0; column < n_columns; ++column, from += o.n_panels * (XP_OPERANDS * 32), unit += 4 * o.n_panels, to += o.n_panels * o.rows) {
            const float weight = *unit;
            auto digit = [&](int f) { return from[f * 32]; };
#else
        {
            float* to = partial;
            auto digit = [&](int f) { return digits[f]; };
#endif
            float y[2] = {0.0f, 0.0f};
            xp_multiply(tile, digit, found, y);
            const float give = t & 1 ? y[0] : y[1], keep = t & 1 ? y[1] : y[0];
            float sum = weight * keep;
            sum += __shfl_xor_sync(0xFFFFFFFF, give * weight, 1);
            sum += __shfl_xor_sync(0xFFFFFFFF, sum, 2);
            if (stores) to[own] = sum;
        }
        tile.go_on();
        __syncwarp();
    }
}
#endif

extern "C" __global__ void __launch_bounds__(32, XP_BLOCKS)
coded_product(XP_ORDER, const u32* __restrict__ code, const u32* __restrict__ mask, XP_SCALES, i64 n_columns,
              const uint2* __restrict__ fragments, const float* __restrict__ units, float* __restrict__ partial) {
#if XP_UNROLLED
    const Order o = {XP_ORDER_NAMES};
    const Scales scales = {XP_SCALES_NAMES};
    const Tile tile = {(char*)xp_shared()};
    const i64 visits = o.n_panels * o.rows, share = (visits + gridDim.x - 1) / gridDim.x;
    // Blocks change at multiples of 16 steps of a segment.
    auto cut = [&](i64 v) { return v < visits ? v - (v % o.n_steps & 15) : visits; };
    i64 v = cut(blockIdx.x * share);
    for (int left = (int)(cut((blockIdx.x + 1) * share) - v); left > 0;) {  // of a block: 2^31 would be 2 T weights
        const i64 p = v / o.rows, i = v - p * o.rows;
        const int n = (int)min(min(o.n_steps - v % o.n_steps, (i64)left), o.rows - i);
        xp_run(o, code, mask, scales, tile, p, i, n, n_columns, fragments, units, partial);
        v += n, left -= n;
    }
#endif
}
