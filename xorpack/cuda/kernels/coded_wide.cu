// wide_activations, coded_wide, then finish: planes that are coded one by one, with or without a mask, by 256 columns at a
// time: weights are decoded once for them, into operands of asynchronous tensor cores. Behind wide.cu.
//
//   XP_X          activations, and what weights are rounded to: 1 float16; 2 bfloat16
//   XP_ROW_SCALES 1: a row has one group of scales; else groups are a multiple of 128 columns
//   XP_STAGES     of 32 KB that shared memory has room for beside the tiles
//
// A warp decodes 16 row indices of a panel into a tile of its own, words of planes as xp_tile has them, then those of the mask;
// corrections are made there, if all planes are. Lane g takes row indices 2 g and 2 g + 1 from it. A weight is the sum of its scales, over
// `unit`, a power of two that none is above, each rounded, times +2 or -2 or 0 by bits of planes and mask: two weights in
// halves of a word, a fused multiply-add a plane, the last plane's first. With two planes that is one rounding, as of
// decoded weights. Product u has bits 2 u, 2 u + 16 (the first half of the activations' numbers) and 2 u + 1, 2 u + 17.
//
// Out:    partial[(column * parts + part) * rows + i], float32, of part_quads quads each, whole panels, corrected.
// Launch: grid (ceil(rows / 128), parts, ceil(n / 256)), 384 threads; shared memory: 128 + 8 * 2304 * (XP_ARRAY + 1) +
//         XP_STAGES * 32768 bytes. Panels of a multiple of 4 chunks. Compute capability 9.0 alone.
// Account, counted in the machine code, for 1024 weights by 256 columns, which take 512 clocks of the tensor cores of a scheduler:
//         q 2, S .9: 285 instructions with row scales, 335 with groups of 128; q 3, S .5: 367 and 424; with quasi-cyclic networks 333 to 466. That is less
//         than 512, but a third of them decodes a panel in one piece, some 1400 to 2000 for 16 x 1024 weights and what its
//         loads take, while the tensor cores have half a quad of this group and at most two or three quads of the other one
//         before them: both groups may wait there, 1.2 to 1.35 times a dense product by this count. Spreading that piece
//         over quads would take the windows' registers for good (q 2: 26 of the 30 that are left). Nothing is measured.
// Oracle: reference.decode_planes and a product in float64.

#ifndef XP_ROW_SCALES
#define XP_ROW_SCALES 0
#endif
#define XP_WIDE_TILE (XP_TILE_WORDS + XP_TILE_ROWS * XP_TILE_STRIDE)

#ifndef XP_ON_HOST
// a * b + c of two numbers in halves of a word.
__device__ __forceinline__ u32 xp_two(u32 a, u32 b, u32 c) {
    u32 sum;
#if XP_X == 1
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
#else
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
#endif
    return sum;
}
#endif

struct Coded {
    const Order& o;
    const Scales& scales;
    const u32 *code, *taps, *mask, *starts;
    const unsigned short* entries;
    const Mend* values;
    i64 n_corrections, i0;
    int n_rows;        // of this warp
    i64 panel, first;  // of the tile, and its first quad
    float inverse;     // half of 1 / unit
    u32* tile;
    Alphas ahead[2];
    u32 kept[2], words[2][XP_BITS], alphas[2][XP_BITS];

    // Row indices i0 .. of panel p, all chunks.
    __device__ __forceinline__ void decode(i64 p) {
        if (!n_rows) return;
        const int lane = threadIdx.x & 31;
        u32 masks[XP_TILE_ROWS];
#pragma unroll
        for (int row = 0; row < XP_TILE_ROWS; ++row) {
            const i64 i = i0 + min(row, n_rows - 1);
            masks[row] = XP_MASK ? mask[xp_mask_at(o, p, i, min(lane, (int)o.panel_chunks - 1))] : xp_mask(o, mask, p, i, lane);
        }
        __syncwarp();
#pragma unroll
        for (int row = 0; row < XP_TILE_ROWS; ++row) tile[XP_TILE_WORDS + row * XP_TILE_STRIDE + lane] = masks[row];
        xp_tile(o, code, taps, p, i0, n_rows, tile);
        if (!n_corrections) return;
        const i64 tiles = xp_col_tiles(o), begin = p * o.panel_chunks * 32, end = min(begin + o.panel_chunks * 32, o.cols);
        for (i64 at = begin / XP_TILE_COLS; at * XP_TILE_COLS < end; ++at) {
            const u32* start = starts + (i0 >> 5) * tiles + at;
            for (u32 n = start[0] + lane; n < start[1]; n += 32) {
                const u32 entry = entries[n];
                const i64 col = at * XP_TILE_COLS + (entry >> 5) - begin, row = (i0 & ~31ll) + (entry & 31) - i0;
                if (col < 0 || col >= end - begin || row < 0 || row >= n_rows) continue;
#pragma unroll
                for (int j = 0; j < XP_BITS; ++j)
                    if (values[n] >> j & 1)
                        atomicXor(tile + (j * XP_TILE_ROWS + row) * XP_TILE_STRIDE + (col >> 5), 1u << (col & 31));
            }
        }
        __syncwarp();
    }

    // Scales of a quad, which begins in this panel or with the next one.
    __device__ __forceinline__ void load_scales(i64 quad) {
        const i64 p = quad * 4 < (panel + 1) * o.panel_chunks ? panel : panel + 1;
#pragma unroll
        for (int c = 0; c < 2; ++c) {
            const i64 i = min(i0 + (threadIdx.x >> 2 & 7) * 2 + c, o.rows - 1);
            ahead[c].load((const char*)scales.data + scales.at(p, i, quad * 128) * XP_SCALE_BYTES);
        }
    }

    __device__ __forceinline__ void use_scales() {
#pragma unroll
        for (int c = 0; c < 2; ++c)
#pragma unroll
            for (int j = 0; j < XP_BITS; ++j)
                alphas[c][j] = xp_rounded(xp_times(ahead[c].alpha(j), inverse), XP_X, XP_X) * 0x10001u;
    }

    __device__ __forceinline__ void quad(i64 quad) {
        if (quad * 4 == (panel + 1) * o.panel_chunks) {
            ++panel;
            decode(panel);
            first = quad;
        }
        if (!XP_ROW_SCALES) {
            use_scales();
            if ((quad + 1) * 128 < o.cols) load_scales(quad + 1);  // a quad before they are needed
        }
        const int k = (int)(quad - first) * 4 + (threadIdx.x & 3);
#pragma unroll
        for (int c = 0; c < 2; ++c) {
            const int row = (threadIdx.x >> 2 & 7) * 2 + c;
            int coded = 0;
#pragma unroll
            for (int j = 0; j < XP_BITS; ++j) {
                words[c][j] = (u32)XP_ONES >> j & 1 ? 0xFFFFFFFF : 0;
                if (!((u32)(XP_ZEROS | XP_ONES) >> j & 1))
                    words[c][j] = tile[(coded++ * XP_TILE_ROWS + row) * XP_TILE_STRIDE + k];
            }
            kept[c] = tile[XP_TILE_WORDS + row * XP_TILE_STRIDE + k];
        }
    }

    // Bits `bit` and `bit` + 16 of a word at places `to` and `to` + 16.
    static __device__ __forceinline__ u32 bits(u32 word, int bit, int to) {
        return (bit <= to ? word << (to - bit) : word >> (bit - to)) & (0x00010001u << to);
    }

    __device__ __forceinline__ void operands(int first_product, u32 (&a)[XP_GROUP][4]) const {
#pragma unroll
        for (int u = 0; u < XP_GROUP; ++u) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int bit = 2 * (first_product + u) + (e >> 1), row = e & 1;
                const u32 two = bits(kept[row], bit, 14);  // 2 in either type, or 0
                u32 sum = 0;
#pragma unroll
                for (int j = XP_BITS - 1; j >= 0; --j)
                    sum = xp_two(two | bits(~words[row][j], bit, 15), alphas[row][j], sum);
                a[u][e] = sum;
            }
        }
    }
};

extern "C" __global__ void __launch_bounds__(XP_THREADS, 1)
coded_wide(XP_ORDER, const u32* __restrict__ code, const u32* __restrict__ taps, const u32* __restrict__ mask, XP_SCALES,
           const u32* __restrict__ starts, const unsigned short* __restrict__ entries, const Mend* __restrict__ values,
           i64 n_corrections, u64 unit, const char* __restrict__ activations, i64 n, i64 quads, i64 part_quads,
           float* __restrict__ partial) {
    const Order o = {XP_ORDER_NAMES};
    const Scales scales = {XP_SCALES_NAMES};
    char* tiles = (char*)xp_shared() + 128;
    Stages stages;
    stages.begin((char*)xp_shared(), tiles + XP_COPIER * XP_WIDE_TILE * 4);
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
    const i64 i0 = blockIdx.x * (i64)XP_BLOCK_ROWS + warp * 16;
    const float size = __uint_as_float((u32)unit);
    Coded weights = {o, scales, code, taps, mask, starts, entries, values, n_corrections, i0};
    weights.n_rows = (int)max(0ll, min((i64)XP_TILE_ROWS, o.rows - i0));
    weights.panel = first * 4 / o.panel_chunks - 1;
    weights.inverse = 0.5f / size;
    weights.tile = (u32*)tiles + warp * XP_WIDE_TILE;
    weights.load_scales(first);
    if (XP_ROW_SCALES) weights.use_scales();
    float sums[128];
    xp_multiply(weights, stages, first, last, sums);
    const float factors[2] = {size, size};
    xp_store_sums<0>(sums, factors, i0, o.rows, n, partial + blockIdx.y * o.rows, gridDim.y * o.rows);
}
