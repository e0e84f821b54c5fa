// trellis_fragments, trellis_matmul, then trellis_finish: a trellis tensor without a mask by many columns, on tensor cores.
// Behind trellis.cu and levels.cu.
//
//   XP_X       activations, and what weights are rounded to: 1 float16; 2 bfloat16
//   XP_TILES   groups of 8 columns at a time; `tiles`, of all columns, is a multiple of it
//   XP_WARPS   warps of a block, 32 rows each
//
// A weight without its scale is one of 2^XP_BITS levels, by the bits of its planes: eight words of planes (0 above XP_BITS)
// are transposed, byte by byte, and every byte is a place in a table. The table has the levels once for each lane, so
// that no two lanes meet in a bank.
//
// mma.m16n8k16, A = weights, B = activations, C in float32: lane (g, t) = (lane / 4, lane % 4) brings chunk 4 Q + t of rows
// g + 8 i, i < 4, of quad Q; product u = 0 .. 7 takes bits u, u + 8 (a0, a1; b0) and u + 16, u + 24 (a2, a3; b1) of it: the order
// of columns in a product is free. So weights go from words to operands in registers, for all XP_TILES.
//
// trellis_fragments: in x (n, cols), x_stride elements from row to row; out fragments[((Q * 8 + u) * tiles + tile) * 64 + lane * 2],
//          0 where there is no column. With gains they are x times gain over `largest`, a power of two that no gain is above,
//          as float32, rounded. Launch: any grid.
// trellis_matmul: out partial[(column * parts + part) * rows + r], float32, of part_quads quads each, without the scale.
//          Launch: grid (ceil(rows / (32 * XP_WARPS)), parts, ceil(n / (8 * XP_TILES))); shared memory: 128 << XP_BITS bytes.
// Bytes:   code once from memory (windows of neighbouring rows overlap in the caches), x once a block from the L2 cache.
// Oracle:  reference.decode_planes and a product in float64.

#ifndef XP_TILES
#define XP_TILES 2
#endif
#ifndef XP_WARPS
#define XP_WARPS 4
#endif

extern "C" __global__ void __launch_bounds__(256, 1)
trellis_fragments(const unsigned short* __restrict__ x, const unsigned short* __restrict__ gains, u64 largest, i64 x_stride, i64 n, i64 cols, i64 quads, i64 tiles, u32* __restrict__ fragments) {
    const i64 all = tiles * quads * 256;
    for (i64 at = blockIdx.x * (i64)blockDim.x + threadIdx.x; at < all; at += (i64)gridDim.x * blockDim.x) {
        const int lane = (int)(at & 31);
        const i64 product = (at >> 5) / tiles, tile = (at >> 5) - product * tiles, quad = product >> 3, u = product & 7;
        const i64 column = tile * 8 + (lane >> 2), first = quad * 128 + (lane & 3) * 32 + u;
        u32 parts[4];
#pragma unroll
        for (int b = 0; b < 4; ++b) {
            const i64 col = first + 8 * b;
            parts[b] = column < n && col < cols ? xp_activation(x, column * x_stride + col, gains, col, largest) : 0;
        }
        fragments[2 * at] = parts[0] | parts[1] << 16;
        fragments[2 * at + 1] = parts[2] | parts[3] << 16;
    }
}

extern "C" __global__ void __launch_bounds__(XP_WARPS * 32, 1)
trellis_matmul(i64 rows, i64 chunks, const u32* __restrict__ code, i64 m, const float* __restrict__ a, u64 largest, const u32* __restrict__ fragments, i64 n,
               i64 tiles, i64 quads, i64 part_quads, float* __restrict__ partial) {
    Weights w;
    w.rows = rows, w.chunks = chunks, w.code = code, w.m = m;
    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    u32* table = xp_shared();
    const u32 exponent = xp_level_exponent(a);
    const float factor = xp_level_factor(exponent, largest);
    for (int at = threadIdx.x; at < 32 << XP_BITS; at += XP_WARPS * 32) table[at] = xp_level(a, at >> 5, exponent);
    __syncthreads();
    const i64 row0 = (blockIdx.x * (i64)XP_WARPS + (threadIdx.x >> 5)) * 32;
    if (row0 >= rows) return;
    const i64 tile0 = blockIdx.z * (i64)XP_TILES;
    float sums[2][XP_TILES][4];
#pragma unroll
    for (int c = 0; c < 8 * XP_TILES; ++c) sums[c / (4 * XP_TILES)][c / 4 % XP_TILES][c % 4] = 0.0f;
    const i64 last = min(quads, (blockIdx.y + 1) * part_quads);
    for (i64 quad = blockIdx.y * part_quads; quad < last; ++quad) {
        u32 places[4][8];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            u32 words[XP_BITS];
#pragma unroll
            for (int j = 0; j < XP_BITS; ++j) words[j] = 0;
            const i64 row = row0 + g + 8 * i;
            if (row < rows && 4 * quad + t < chunks) w.planes(row, 4 * quad + t, words);
#pragma unroll
            for (int j = 0; j < 8; ++j) places[i][j] = j < XP_BITS ? words[j < XP_BITS ? j : 0] : 0;
            xp_transpose(places[i]);
        }
        const u32* own = fragments + (quad * 8 * tiles + tile0) * 64 + lane * 2;
#pragma unroll
        for (int u = 0; u < 8; ++u) {
            u32 weights[2][4];
#pragma unroll
            for (int e = 0; e < 8; ++e) {
                const u32 bytes = places[e & 3][u] >> 16 * (e >> 2);
                const u32 low = table[(bytes & 0xFF) * 32 + lane], high = table[(bytes >> 8 & 0xFF) * 32 + lane];
                weights[e >> 1 & 1][(e & 1) + 2 * (e >> 2)] = low | high << 16;
            }
#pragma unroll
            for (int tile = 0; tile < XP_TILES; ++tile) {
                const uint2 b = *(const uint2*)(own + tile * 64);
                xp_mma(sums[0][tile], weights[0], b.x, b.y);
                xp_mma(sums[1][tile], weights[1], b.x, b.y);
            }
            own += tiles * 64;
        }
    }
#pragma unroll
    for (int c = 0; c < 8 * XP_TILES; ++c) {
        const int tile = c / 4 % XP_TILES;
        const i64 column = (tile0 + tile) * 8 + 2 * t + (c & 1), row = row0 + c / (4 * XP_TILES) * 16 + (c >> 1 & 1) * 8 + g;
        if (column < n && row < rows) partial[(column * gridDim.y + blockIdx.y) * rows + row] = factor * sums[c / (4 * XP_TILES)][tile][c % 4];
    }
}
