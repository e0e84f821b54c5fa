// matmul, then finish (finish.cu): the fused product on tensor cores, 8 * XP_TILES columns at a time.
//
//   XP_X       activations: 0 float32, as three bfloat16 parts that sum to it exactly; 1 float16; 2 bfloat16
//   XP_TILES   groups of 8 columns: 1, 2, 4
//   XP_WARPS   warps of a block; a warp has 16 row indices
//   XP_GROUP_SHIFT   as in matvec.cu
//
// In:      order, code, taps, mask, scales; x (n, cols), x_stride elements from row to row. Scales must be shared by
//          the 4 chunks of a quad (chunks 4 Q .. 4 Q + 3 of the row), or by the row.
// Out:     partial[(column * splits + split) * rows + i], float32: the share of the split's panels.
// Launch:  grid (ceil(rows / (16 * XP_WARPS)), splits, ceil(n / (8 * XP_TILES))), XP_WARPS * 32 threads; shared memory:
//          XP_WARPS * XP_TILE_WORDS words for decoded words, then 4608 * XP_TILES for each part of the activations: 9
//          quads, for a panel may begin and end within one.
// Layout:  mma.m16n8k16, A = weights, B = activations, C in float32. Per plane a weight is -1, 0 or +1 (of a
//          unit), exact in any type; the scales multiply the sum of 128 columns (a *quad* of chunks). The order of
//          columns within a quad is free as long as A and B agree: lane (g, t) = (lane / 4, lane % 4) brings chunk
//          4 Q + t of rows g and g + 8, product u = 0 .. 7 takes bits 2u, 2u + 16 and 2u + 1, 2u + 17 of its words. So a
//          word in a register becomes fragments by shifts alone.
//
//              C 16 x 8   c0 c1: row g      columns 2t, 2t + 1      A  a0: row g      bits 2u, 2u + 16
//                         c2 c3: row g + 8                             a1: row g + 8  the same
//              B          b0: bits 2u, 2u + 16 of column g             a2: row g      bits 2u + 1, 2u + 17
//                         b1: bits 2u + 1, 2u + 17                     a3: row g + 8  the same
//
//          In shared memory b0, b1 of (Q, u, tile) lie at ((Q * 8 + u) * XP_TILES + tile) * 64 + (lane ^ u) * 2.
// Fixed order: products of a quad in order, planes, quads, panels; no atomics.
// Bytes:   code + mask + scales once from memory (windows of neighbouring tiles overlap in the caches), x once a block
//          and panel from the L2 cache, partial written and read.
// Cost at q = 2, 8 columns of float16: instructions a step of 32 words, counted in the machine code for sm_90:
//          fragments and the rest of a quad 174 (348 a quad, 16 of them mma), network about 60 (quasi-cyclic), activations 30: 265 in
//          all. Fragments are reused for all XP_TILES. Counted, not measured on hardware.
// Oracle:  reference.decode_planes and a product in float64.

#ifndef XP_TILES
#define XP_TILES 1
#endif
#ifndef XP_GROUP_SHIFT
#define XP_GROUP_SHIFT -1
#endif
#ifndef XP_WARPS
#define XP_WARPS 8
#endif
#define XP_PARTS (XP_X ? 1 : 3)
#define XP_QUADS 9
#define XP_PART_WORDS (XP_QUADS * 512 * XP_TILES)

// The parts of an activation, 16 bits each.
__device__ __forceinline__ void xp_parts(const void* x, i64 at, bool exists, u32 (&parts)[XP_PARTS]) {
#if XP_X
    parts[0] = exists ? ((const unsigned short*)x)[at] : 0;
#else
    const float value = exists ? ((const float*)x)[at] : 0.0f;
    const u32 bits = __float_as_uint(value);
    const bool finite = (bits & 0x7F800000) != 0x7F800000;
    const float rest = finite ? value - __uint_as_float(bits & 0xFFFF0000) : 0.0f;
    const u32 middle = __float_as_uint(rest);
    const float last = rest - __uint_as_float(middle & 0xFFFF0000);
    parts[0] = bits >> 16 | ((bits & 0x7FFFFFFF) > 0x7F800000 ? 0x40 : 0);
    parts[1] = middle >> 16;
    parts[2] = __float_as_uint(last) >> 16;
#endif
}

// Activations of a panel and of columns first .. to shared memory, in order of fragments. A thread has bits b and
// b + 16 of the same chunks in every column.
__device__ __forceinline__ void xp_fill(const Order& o, u32* fragments, const void* x, i64 x_stride, i64 first, i64 n,
                                        i64 p, int lead) {
#pragma unroll
    for (int at = threadIdx.x; at < 64 * XP_QUADS; at += XP_WARPS * 32) {
        const int b = at & 15, place = at >> 4, k = place - lead, u = b >> 1;
        const i64 col = (p * o.panel_chunks + k) * 32 + b;
        const bool exists = k >= 0 && k < o.panel_chunks;
        const bool low_exists = exists && col < o.cols, high_exists = exists && col + 16 < o.cols;
        i64 from = first * x_stride + col;
        u32* to = fragments + ((place >> 2) * 8 + u) * XP_TILES * 64 + (b & 1);
#pragma unroll
        for (int column = 0; column < 8 * XP_TILES; ++column, from += x_stride) {
            const bool in = first + column < n;
            u32 low[XP_PARTS], high[XP_PARTS];
            xp_parts(x, from, in && low_exists, low);
            xp_parts(x, from + 16, in && high_exists, high);
            const int lane = (column & 7) * 4 + (place & 3);
#pragma unroll
            for (int part = 0; part < XP_PARTS; ++part)
                to[part * XP_PART_WORDS + (column >> 3) * 64 + (lane ^ u) * 2] = low[part] | high[part] << 16;
        }
    }
}

// 1 (XP_X == 1: 2^-14, which takes an instruction less) in both halves where bits `bit` and `bit` + 16 are 1, else 0.
__device__ __forceinline__ u32 xp_size(u32 word, int bit) {
    if (XP_X != 1) return (word >> bit & 0x00010001) * 0x3F80u;
    return (bit < 10 ? word << (10 - bit) : word >> (bit - 10)) & 0x04000400;
}
#define XP_UNIT (XP_X == 1 ? 16384.0f : 1.0f)

extern "C" __global__ void __launch_bounds__(XP_WARPS * 32, 1)
matmul(XP_ORDER, const u32* __restrict__ code, const u32* __restrict__ taps, const u32* __restrict__ mask, XP_SCALES,
       const void* __restrict__ x, i64 x_stride, i64 n, float* __restrict__ partial) {
    const Order o = {XP_ORDER_NAMES};
    const Scales scales = {XP_SCALES_NAMES};
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int g = lane >> 2, t = lane & 3;
    u32* tile = xp_shared() + warp * XP_TILE_WORDS;
    u32* fragments = xp_shared() + XP_WARPS * XP_TILE_WORDS;
    const i64 i0 = (blockIdx.x * (i64)XP_WARPS + warp) * 16;
    const int n_rows = (int)max(0ll, min(16ll, o.rows - i0));
    const i64 first = blockIdx.z * 8ll * XP_TILES;
    float total[XP_TILES][4];
#pragma unroll
    for (int c = 0; c < XP_TILES * 4; ++c) total[c / 4][c % 4] = 0.0f;
    const i64 p_last = o.n_panels * (blockIdx.y + 1) / gridDim.y;
    for (i64 p = o.n_panels * blockIdx.y / gridDim.y; p < p_last; ++p) {
        __syncthreads();
        const int lead = (int)(p * o.panel_chunks & 3);
        xp_fill(o, fragments, x, x_stride, first, n, p, lead);
        if (n_rows) xp_tile(o, code, taps, p, i0, n_rows, tile);
        __syncthreads();
        for (int quad = 0; 4 * quad < o.panel_chunks + lead; ++quad) {
            const i64 col = (p * o.panel_chunks + 4 * quad - lead) * 32;
            if (col >= o.cols) break;
            const int k = 4 * quad + t - lead;
            u32 kept[2], minus[2][XP_BITS];  // of rows g and g + 8: weights, and those with bit 0
            float alpha[2][XP_BITS];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = g + 8 * half;
                const bool exists = row < n_rows;
                kept[half] = exists && k >= 0 ? xp_mask(o, mask, p, i0 + row, k) : 0;
#if XP_GROUP_SHIFT >= 0
                const i64 at = p * scales.panel + (i0 + row) * scales.row + ((4 * quad) >> XP_GROUP_SHIFT) * XP_BITS;
#else
                const i64 at = exists ? scales.at(p, i0 + row, col) : 0;
#endif
                int coded = 0;
#pragma unroll
                for (int j = 0; j < XP_BITS; ++j) {
                    alpha[half][j] = exists ? XP_UNIT * xp_load(scales.data, at + j, XP_SCALE) : 0.0f;
                    u32 ones = (u32)XP_ONES >> j & 1 ? 0xFFFFFFFF : 0;
                    if (!((u32)(XP_ZEROS | XP_ONES) >> j & 1))
                        ones = tile[(coded++ * XP_TILE_ROWS + row) * XP_TILE_STRIDE + max(k, 0)];
                    minus[half][j] = kept[half] & ~ones;
                }
            }
            float sums[XP_BITS][XP_TILES][4];
#pragma unroll
            for (int c = 0; c < XP_BITS * XP_TILES * 4; ++c) sums[c / (XP_TILES * 4)][c / 4 % XP_TILES][c % 4] = 0.0f;
#pragma unroll
            for (int u = 0; u < 8; ++u) {
                u32 size[4];
#pragma unroll
                for (int e = 0; e < 4; ++e) size[e] = xp_size(kept[e & 1], 2 * u + (e >> 1));
                uint2 b[XP_PARTS][XP_TILES];
#pragma unroll
                for (int c = 0; c < XP_PARTS * XP_TILES; ++c)
                    b[c / XP_TILES][c % XP_TILES] =
                        *(const uint2*)(fragments + c / XP_TILES * XP_PART_WORDS +
                                        ((quad * 8 + u) * XP_TILES + c % XP_TILES) * 64 + (lane ^ u) * 2);
#pragma unroll
                for (int j = 0; j < XP_BITS; ++j) {
                    u32 a[4];
#pragma unroll
                    for (int e = 0; e < 4; ++e)
                        a[e] = size[e] | (minus[e & 1][j] << (15 - 2 * u - (e >> 1)) & 0x80008000);
#pragma unroll
                    for (int c = 0; c < XP_PARTS * XP_TILES; ++c)
                        xp_mma(sums[j][c % XP_TILES], a, b[c / XP_TILES][c % XP_TILES].x,
                               b[c / XP_TILES][c % XP_TILES].y);
                }
            }
#pragma unroll
            for (int j = 0; j < XP_BITS; ++j) {
#pragma unroll
                for (int c = 0; c < XP_TILES * 4; ++c)
                    total[c / 4][c % 4] = fmaf(alpha[c % 4 >> 1][j], sums[j][c / 4][c % 4], total[c / 4][c % 4]);
            }
        }
    }
#pragma unroll
    for (int c = 0; c < XP_TILES * 4; ++c) {
        const i64 column = first + c / 4 * 8 + 2 * t + (c & 1);
        const int row = g + 8 * (c % 4 >> 1);
        if (column < n && row < n_rows)
            partial[(column * gridDim.y + blockIdx.y) * o.rows + i0 + row] = total[c / 4][c % 4];
    }
}
