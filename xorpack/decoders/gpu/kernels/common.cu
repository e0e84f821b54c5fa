// The text in front of every kernel: types, the order of coding, and code to words.
//
// Specialised by macros, whose defaults make each kernel compile behind this text alone:
//   XP_PLANES     coded planes (0 and up)
//   XP_UNROLLED   1: the taps are constants and a warp keeps the window in registers; needs 32 lanes, one turn
//                 per row (n_sub = 1), m_lane <= n_steps, turned, quasi-cyclic or raw. 0: taps come from a table in
//                 memory, any network and layout.
//   XP_WINDOW, XP_DISTINCT, XP_TAPS, XP_OFFSETS, XP_ROTATIONS   the network, where XP_UNROLLED: of XP_DISTINCT rows
//   XP_TURNED     0: a rotation of each tap; else the network is turned, XP_DISTINCT is 16, and step s turns three words by
//                 XP_ROTATIONS[s / 16 % XP_TURNED]
//   XP_HOLD       steps for which the window stays: it moves where s % XP_HOLD is 0; divides 16
//   XP_AHEAD      stored words behind the window that a lane has loaded before they are needed
//   XP_BITS, XP_ZEROS, XP_ONES   all planes, and the sets of those that are constant where kept
//   XP_SCALE      type of the scales: 0 float32, 1 float16
//   XP_SKEW       1: 32 lanes, one turn and 32 chunks a panel
//   XP_MASK       1: the mask is an array of words; 0: every weight is kept
//
// Order of coding (FORMAT.md, section 5). A *visit* v = p * rows + i is one row of one panel: panel p, row index
// i, row r = i * row_stride % rows. Its words have k = 0 .. panel_chunks - 1, chunk = p * panel_chunks + k. What a
// loader may reorder (mask, scales, partial sums) lies in order of visits, so that a warp reads it end to end:
//   mask[v * panel_chunks + k], 0 where the chunk does not exist; where XP_SKEW, mask[v * 32 + lane] with
//   k = (lane + i) % 32, so that a lane that walks down rows steps by 32 words.
// Words of planes lie side by side: code[((segment * m_lane + x) * XP_PLANES + plane) * lanes + lane].
// Taps in memory: XP_TAPS + 1 words a row: their number, then offset << 5 | rotation each.
//
// Scales in order of visits too: plane j of group g (of those of a panel, or of the row) is
//   scales[p * scale_panel + i * scale_row + g * XP_BITS + j]
// Corrections lie in tiles of 32 row indices x 2048 columns: tile w = i / 32 * col_tiles + col / 2048 is
// entries[starts[w]] .. entries[starts[w + 1] - 1], an entry is (col % 2048) << 5 | i % 32, rising in a tile. Their
// values: of lossless tensors the right elements; else the XOR and, XP_VALUE_BITS higher, the right bits.
//
// All counts are 64 bits wide. Oracle: xorpack/decoders/reference.py.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifndef XP_PLANES
#define XP_PLANES 2
#endif
#ifndef XP_UNROLLED
#define XP_UNROLLED 0
#endif
#ifndef XP_TAPS
#define XP_TAPS 6
#endif
#ifndef XP_HOLD
#define XP_HOLD 1
#endif
#ifndef XP_TURNED
#define XP_TURNED 0
#endif
#ifndef XP_AHEAD
#define XP_AHEAD 1
#endif
#ifndef XP_BITS
#define XP_BITS XP_PLANES
#endif
#ifndef XP_ZEROS
#define XP_ZEROS 0
#endif
#ifndef XP_ONES
#define XP_ONES 0
#endif
#ifndef XP_SCALE
#define XP_SCALE 1
#endif
#ifndef XP_SKEW
#define XP_SKEW 0
#endif
#ifndef XP_MASK
#define XP_MASK 1
#endif
#define XP_VALUE_BITS (XP_BITS <= 4 ? 4 : 8)
#if XP_BITS <= 4
typedef unsigned char Mend;
#else
typedef unsigned short Mend;
#endif
#define XP_TILE_COLS 2048
#define XP_ARRAY (XP_PLANES ? XP_PLANES : 1)
#define XP_TILE_ROWS 16
#define XP_TILE_STRIDE 36
#define XP_TILE_WORDS (XP_ARRAY * XP_TILE_ROWS * XP_TILE_STRIDE)

#define XP_ORDER                                                                                          \
    i64 rows, i64 cols, i64 chunks, i64 lanes, i64 n_steps, i64 row_stride, i64 panel_chunks,              \
        i64 n_panels, i64 n_sub, i64 m_lane, i64 n_in, i64 num, i64 den, i64 n_distinct,                   \
        u64 by_rows, u64 by_steps, u64 by_den, u64 by_distinct
#define XP_ORDER_NAMES                                                                                  \
    rows, cols, chunks, lanes, n_steps, row_stride, panel_chunks, n_panels, n_sub, m_lane, n_in, num, den, \
        n_distinct, by_rows, by_steps, by_den, by_distinct

// Names as above; by_x is min(2^64 - 1, 2^64 / x), for xp_divide.
struct Order {
    i64 rows, cols, chunks, lanes, n_steps, row_stride, panel_chunks, n_panels, n_sub, m_lane;
    i64 n_in, num, den, n_distinct;
    u64 by_rows, by_steps, by_den, by_distinct;
};

#ifndef XP_ON_HOST
// Kernels may be compiled with -ftz=true; elements keep their subnormals.
__device__ __forceinline__ float xp_add(float a, float b) {
    float sum;
    asm("add.rn.f32 %0, %1, %2;" : "=f"(sum) : "f"(a), "f"(b));
    return sum;
}

__device__ __forceinline__ float xp_times(float a, float b) {
    float product;
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(product) : "f"(a), "f"(b));
    return product;
}

__device__ __forceinline__ float xp_from_half(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short xp_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// Memory of a block whose size the launch gives.
__device__ __forceinline__ u32* xp_shared() {
    extern __shared__ __align__(16) u32 xp_dynamic[];
    return xp_dynamic;
}
#endif

__device__ __forceinline__ float xp_from_bfloat(unsigned short bits) {
    return __uint_as_float((u32)bits << 16);
}

__device__ __forceinline__ unsigned short xp_to_bfloat(float value) {
    const u32 bits = __float_as_uint(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (unsigned short)(bits >> 16 | 0x40);
    return (unsigned short)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Element types of activations, outputs and scales: 0 float32, 1 float16, 2 bfloat16.
__device__ __forceinline__ float xp_load(const void* data, i64 at, int type) {
    if (type == 0) return ((const float*)data)[at];
    const unsigned short bits = ((const unsigned short*)data)[at];
    return type == 1 ? xp_from_half(bits) : xp_from_bfloat(bits);
}

__device__ __forceinline__ void xp_store(void* data, i64 at, int type, float value) {
    if (type == 0) ((float*)data)[at] = value;
    else ((unsigned short*)data)[at] = type == 1 ? xp_to_half(value) : xp_to_bfloat(value);
}

// Bits of a float32 sum rounded to the type `own`, then to the type `element`.
__device__ __forceinline__ u32 xp_rounded(float value, int own, int element) {
    if (own == 1 && element != 1) value = xp_from_half(xp_to_half(value));
    if (own == 2 && element != 2) value = xp_from_bfloat(xp_to_bfloat(value));
    if (element == 0) return __float_as_uint(value);
    return element == 1 ? xp_to_half(value) : xp_to_bfloat(value);
}

// The first n of 8 elements, in 16-byte pieces where that can be.
template <class Element> __device__ __forceinline__ void xp_store_8(Element* to, const Element (&elements)[8], i64 n) {
    constexpr int bytes = (int)sizeof(Element);
    if (n >= 8 && (u64)to % (bytes < 2 ? 8 : 16) == 0) {
        u32 packed[2 * bytes];
#pragma unroll
        for (int w = 0; w < 2 * bytes; ++w) packed[w] = 0;
#pragma unroll
        for (int e = 0; e < 8; ++e) packed[e * bytes / 4] |= (u32)elements[e] << (e * bytes % 4 * 8);
        if constexpr (bytes == 1) {
            *(uint2*)to = make_uint2(packed[0], packed[1]);
        } else {
#pragma unroll
            for (int w = 0; w < 2 * bytes; w += 4)
                ((uint4*)to)[w / 4] = make_uint4(packed[w], packed[w + 1], packed[w + 2], packed[w + 3]);
        }
    } else {
#pragma unroll
        for (int e = 0; e < 8; ++e)
            if (e < n) to[e] = elements[e];
    }
}

// x / n with the reciprocal of n: the estimate is at most one too small.
__device__ __forceinline__ i64 xp_divide(i64 x, i64 n, u64 by_n, i64& rest) {
    i64 quotient = (i64)__umul64hi((u64)x, by_n);
    rest = x - quotient * n;
    if (rest >= n) {
        ++quotient;
        rest -= n;
    }
    return quotient;
}

__device__ __forceinline__ u32 xp_rotate(u32 word, u32 left) {
    return __funnelshift_l(word, word, left);
}

__device__ __forceinline__ i64 xp_row(const Order& o, i64 i) {
    i64 row;
    xp_divide(i * o.row_stride, o.rows, o.by_rows, row);
    return row;
}

// Where the mask of word k of row index i of panel p lies.
__device__ __forceinline__ i64 xp_mask_at(const Order& o, i64 p, i64 i, int k) {
    return (p * o.rows + i) * o.panel_chunks + (XP_SKEW ? (k - (int)(i & 31)) & 31 : k);
}

__device__ __forceinline__ u32 xp_mask(const Order& o, const u32* mask, i64 p, i64 i, int k) {
    if (k >= o.panel_chunks) return 0;
#if XP_MASK
    return mask[xp_mask_at(o, p, i, k)];
#else
    const i64 left = o.cols - 32 * (p * o.panel_chunks + k);
    return left >= 32 ? 0xFFFFFFFF : left <= 0 ? 0 : (1u << left) - 1;
#endif
}

// One word of every coded plane, by the table: panel p, row index i, chunk k of the panel.
__device__ __forceinline__ void xp_words(const Order& o, const u32* code, const u32* taps, i64 p, i64 i, int k,
                                         u32 (&words)[XP_ARRAY]) {
#pragma unroll
    for (int j = 0; j < XP_ARRAY; ++j) words[j] = 0;
    if (XP_PLANES == 0 || o.m_lane == 0) return;
    const int turn = (int)(o.n_sub * o.lanes);
    int slot = (k - (int)(i % turn)) % turn;  // turn <= 62
    if (slot < 0) slot += turn;
    const int c = slot / (int)o.lanes;
    const int lane = slot - c * (int)o.lanes;
    i64 s, row, unused;
    const i64 segment = xp_divide((p * o.rows + i) * o.n_sub + c, o.n_steps, o.by_steps, s);
    const i64 start = o.n_in * xp_divide((s - s % XP_HOLD) * o.num, o.den, o.by_den, unused);
    xp_divide(s, o.n_distinct, o.by_distinct, row);
    const u32* tap = taps + row * (XP_TAPS + 1);
    const u32* ring = code + segment * o.m_lane * XP_PLANES * o.lanes;
    const int n = (int)*tap;
    for (int a = 1; a <= n; ++a) {
        i64 x = start + (tap[a] >> 5);
        i64 from = lane;
        if (x >= o.m_lane) {
            const i64 turns = x / o.m_lane;
            x -= turns * o.m_lane;
            from = (lane + turns) % o.lanes;
        }
        const u32* word = ring + x * XP_PLANES * o.lanes + from;
#pragma unroll
        for (int j = 0; j < XP_PLANES; ++j) words[j] ^= xp_rotate(word[j * o.lanes], tap[a] & 31);
    }
}

// Where the scales of a column lie.
struct Scales {
    const void* data;
    i64 group, groups_per_panel, panel, row;  // columns of a group; 0 groups a panel: groups count along the row
    u64 by_group;

    __device__ __forceinline__ i64 at(i64 p, i64 i, i64 col) const {
        i64 unused;
        i64 g = xp_divide(col, group, by_group, unused);
        return p * panel + i * row + (g - p * groups_per_panel) * XP_BITS;
    }
};

#define XP_SCALES \
    const void *scale_data, i64 group, i64 groups_per_panel, i64 scale_panel, i64 scale_row, u64 by_group
#define XP_SCALES_NAMES scale_data, group, groups_per_panel, scale_panel, scale_row, by_group

#define XP_SCALE_BYTES (XP_SCALE ? 2 : 4)
#define XP_RAW (XP_SCALE ? (XP_BITS + 1) / 2 : XP_BITS)

// Scales of a group, as they lie in memory, so that many wait in few registers.
struct Alphas {
    u32 raw[XP_RAW];

    __device__ __forceinline__ void load(const void* scales) {
#pragma unroll
        for (int j = 0; j < XP_RAW; ++j) {
            if (!XP_SCALE || XP_BITS % 2 == 0) raw[j] = ((const u32*)scales)[j];
            else {
                const unsigned short* halves = (const unsigned short*)scales + 2 * j;
                raw[j] = halves[0];
                if (2 * j + 1 < XP_BITS) raw[j] |= (u32)halves[1] << 16;
            }
        }
    }

    __device__ __forceinline__ float alpha(int j) const {
        if (!XP_SCALE) return __uint_as_float(raw[j]);
        return xp_from_half((unsigned short)(raw[j / 2] >> 16 * (j & 1)));
    }
};

// Bit k of lane j becomes bit j of lane k.
__device__ __forceinline__ u32 xp_transpose(u32 word) {
    const int lane = threadIdx.x & 31;
    u32 low = 0x0000FFFF;
#pragma unroll
    for (int half = 16; half >= 1; half /= 2) {
        const u32 other = __shfl_xor_sync(0xFFFFFFFF, word, half);
        word = lane & half ? (other >> half & low) | (word & ~low) : (word & low) | (other & low) << half;
        low ^= low << half / 2;
    }
    return word;
}

// A plane of depths (xorpack.depths) holds n_depths words for 32 symbols. Lane l takes that of depth n_depths - 1 - l,
// bit l of a codeword's last n_depths bits, at this place of the group; xp_transpose then gives lane j those of symbol j.
__device__ __forceinline__ int xp_place(i64 n_depths, i64 stride) {
    int place = 0;
    const i64 wanted = n_depths - 1 - (threadIdx.x & 31);
    for (i64 depth = 0; wanted > 0 && depth != wanted; ++place) depth = (depth + stride) % n_depths;
    return place;
}

// The symbol whose codeword `value` begins with: run n of a canonical code has runs[2 n] = first codeword << 5 | free
// bits, runs[2 n + 1] = rank of its first symbol; n_runs is a power of two, runs behind the last begin past all values.
__device__ __forceinline__ u32 xp_symbol(const u32* runs, i64 n_runs, const u32* symbols, u32 value) {
    for (i64 half = n_runs; half >= 2; half /= 2)
        if (runs[half] >> 5 <= value) runs += half;
    return symbols[runs[1] + ((value - (runs[0] >> 5)) >> (runs[0] & 31))];
}

// The list that item n belongs to: the last one that begins at n or before.
__device__ __forceinline__ i64 xp_list_of(const u32* starts, i64 n_lists, i64 n) {
    i64 low = 0, high = n_lists;
    while (high - low > 1) {
        const i64 middle = (low + high) / 2;
        if (starts[middle] <= n) low = middle;
        else high = middle;
    }
    return low;
}

__device__ __forceinline__ i64 xp_col_tiles(const Order& o) {
    return (o.cols + XP_TILE_COLS - 1) / XP_TILE_COLS;
}

// `sum` of row index i with the corrections of its tiles that are its own: a wrong bit counted with the wrong sign.
__device__ __forceinline__ float xp_corrected(const Order& o, const Scales& scales, const u32* starts,
                                              const unsigned short* entries, const Mend* values, i64 i, const void* x,
                                              int x_type, i64 x_at, float sum) {
    const i64 tiles = xp_col_tiles(o);
    const u32* start = starts + (i >> 5) * tiles;
    u32 n = start[0];
    for (i64 tile = 0; tile < tiles; ++tile) {
        const u32 last = start[tile + 1];
        for (; n < last; ++n) {
            const u32 entry = entries[n];
            if ((entry & 31) != (u32)(i & 31)) continue;
            const i64 col = tile * XP_TILE_COLS + (entry >> 5);
            const i64 at = scales.at(col / (32 * o.panel_chunks), i, col);
            float delta = 0.0f;
#pragma unroll
            for (int j = 0; j < XP_BITS; ++j) {
                const float twice = 2.0f * xp_load(scales.data, at + j, XP_SCALE);
                if (values[n] >> j & 1) delta += values[n] >> (XP_VALUE_BITS + j) & 1 ? twice : -twice;
            }
            sum = fmaf(delta, xp_load(x, x_at + col, x_type), sum);
        }
    }
    return sum;
}

#if XP_UNROLLED
__device__ constexpr int xp_offsets[XP_DISTINCT][XP_TAPS] = XP_OFFSETS;
#if XP_TURNED
__constant__ int xp_rotations[XP_TURNED] = XP_ROTATIONS;
#else
__device__ constexpr int xp_rotations[XP_DISTINCT][XP_TAPS] = XP_ROTATIONS;
#endif

// A warp's way through consecutive steps of one segment: lane l keeps its window of every plane in registers.
struct Walk {
    u32 window[XP_ARRAY][XP_WINDOW + XP_AHEAD];
    const u32* at;  // where the next word of the first plane lies; those of other planes are behind it
    u32 x, m, n;    // which stored word of its lane that is; m_lane; n_steps
    u32 phase;      // (s - s % XP_HOLD) * m_lane % n_steps
    int lane;       // of the ring, that the next word is of
#if XP_TURNED
    int turn;      // s / 16 % XP_TURNED
    int rotation;  // xp_rotations[turn]
#endif

    // Loads the next stored word of the ring to place a: behind a lane's last one comes the first of the next lane.
    __device__ __forceinline__ void load(int a) {
#pragma unroll
        for (int j = 0; j < XP_PLANES; ++j) window[j][a] = at[j * 32];
        at += 32 * XP_PLANES;
        if (++x < m) return;
        x = 0;
        const int from = lane;
        lane = (lane + 1) & 31;
        at += lane - from - 32 * XP_PLANES * (i64)m;
    }

    // Ready for step s of the segment.
    __device__ __forceinline__ void begin(const Order& o, const u32* code, i64 segment, i64 s) {
        const u32* ring = code + segment * o.m_lane * (32 * XP_PLANES);
        i64 rest;
        x = (u32)xp_divide((s - s % XP_HOLD) * o.m_lane, o.n_steps, o.by_steps, rest);
        phase = (u32)rest;
        m = (u32)o.m_lane;
        n = (u32)o.n_steps;
        lane = threadIdx.x & 31;
        at = ring + x * (32ll * XP_PLANES) + lane;
#pragma unroll
        for (int a = 0; a < XP_WINDOW + XP_AHEAD; ++a) load(a);
#if XP_TURNED
        turn = (int)(s / 16 % XP_TURNED);
        rotation = xp_rotations[turn];
#endif
    }

    // The words of a step whose s % XP_DISTINCT is u, a constant after unrolling, where `kept` is 1.
    __device__ __forceinline__ void words(int u, u32 kept, u32 (&out)[XP_ARRAY]) const {
#pragma unroll
        for (int j = 0; j < XP_PLANES; ++j) {
            u32 word = 0;
#if XP_TURNED
#pragma unroll
            for (int a = 0; a < 3; ++a) word ^= window[j][xp_offsets[u][a]];
            word = xp_rotate(word, rotation);
#pragma unroll
            for (int a = 3; a < 6; ++a) word ^= window[j][xp_offsets[u][a]];
#else
#pragma unroll
            for (int a = 0; a < XP_TAPS; ++a) word ^= xp_rotate(window[j][xp_offsets[u][a]], xp_rotations[u][a]);
#endif
            out[j] = word & kept;
        }
    }

    // The window moves by so many words, for all lanes alike.
    template <int Words> __device__ __forceinline__ void move() {
        constexpr int kept = XP_WINDOW + XP_AHEAD - Words;
#pragma unroll
        for (int j = 0; j < XP_PLANES; ++j)
#pragma unroll
            for (int a = 0; a < kept; ++a) window[j][a] = window[j][a + Words];
#pragma unroll
        for (int a = 0; a < Words; ++a) load(kept + a);
    }

    // From a step whose s % XP_DISTINCT is u to the next one: the window stays or moves.
    __device__ __forceinline__ void step(int u) {
#if XP_TURNED
        if (u == 15) {
            turn = turn + 1 < XP_TURNED ? turn + 1 : 0;
            rotation = xp_rotations[turn];
        }
#endif
        if ((u + 1) % XP_HOLD) return;
        phase += XP_HOLD * m;
        // Loops, though they seldom run more than once: their variables keep their registers, where a branch would copy
        // the window on the way around it too.
#if XP_HOLD > 1
#pragma unroll 1
        while (phase >= 2 * n) {
            phase -= 2 * n;
            move<2>();
        }
#endif
#pragma unroll 1
        while (phase >= n) {
            phase -= n;
            move<1>();
        }
    }
};
#endif

// A warp decodes n <= 16 row indices of a panel into its tile: word k of row i0 + u of plane j goes to
// tile[(j * 16 + u) * 36 + k]. The stride of 36 lets eight rows of four words be read without bank conflicts.
// Words of chunks that do not exist are arbitrary or left as they were. Ends in a warp barrier.
__device__ __forceinline__ void xp_tile(const Order& o, const u32* code, const u32* taps, i64 p, i64 i0, int n,
                                        u32* tile) {
    const int lane = threadIdx.x & 31;
    u32 words[XP_ARRAY];
#if XP_UNROLLED
    int done = 0;
    while (done < n) {
        i64 first;
        const i64 segment = xp_divide(p * o.rows + i0 + done, o.n_steps, o.by_steps, first);
        const i64 last = min(o.n_steps, first + (n - done));
        Walk walk;
        walk.begin(o, code, segment, first);
        const i64 round = first - first % XP_DISTINCT;
        for (i64 base = round; base < last; base += XP_DISTINCT) {
#pragma unroll
            for (int u = 0; u < XP_DISTINCT; ++u) {
                const i64 s = base + u;
                if (s >= first && s < last) {
                    walk.words(u, 0xFFFFFFFF, words);
                    walk.step(u);
                    const int at = done + (int)(s - first);
                    const int k = (lane + (int)((i0 + at) & 31)) & 31;
#pragma unroll
                    for (int j = 0; j < XP_PLANES; ++j)
                        tile[(j * XP_TILE_ROWS + at) * XP_TILE_STRIDE + k] = words[j];
                }
            }
        }
        done += (int)(last - first);
    }
#else
    for (int u = 0; u < n; ++u) {
        if (lane < o.panel_chunks) {
            xp_words(o, code, taps, p, i0 + u, lane, words);
#pragma unroll
            for (int j = 0; j < XP_PLANES; ++j) tile[(j * XP_TILE_ROWS + u) * XP_TILE_STRIDE + lane] = words[j];
        }
    }
#endif
    __syncwarp();
}

// All warps together go through row indices i_first .. i_last - 1 of all panels, a tile of at most 16 at a time:
// body(p, i0, n, tile).
template <class Body>
__device__ __forceinline__ void xp_tiles(const Order& o, const u32* code, const u32* taps, i64 i_first, i64 i_last,
                                         Body body) {
    u32* tile = xp_shared() + (threadIdx.x >> 5) * XP_TILE_WORDS;
    const i64 tiles = (i_last - i_first + XP_TILE_ROWS - 1) / XP_TILE_ROWS;
    const i64 warps = blockDim.x >> 5, n_warps = gridDim.x * warps;
    for (i64 item = blockIdx.x * warps + (threadIdx.x >> 5); item < tiles * o.n_panels; item += n_warps) {
        const i64 p = item / tiles;
        const i64 i0 = i_first + (item - p * tiles) * XP_TILE_ROWS;
        const int n = (int)min((i64)XP_TILE_ROWS, i_last - i0);
        xp_tile(o, code, taps, p, i0, n, tile);
        body(p, i0, n, tile);
        __syncwarp();
    }
}
