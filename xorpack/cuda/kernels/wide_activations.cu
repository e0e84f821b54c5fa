// wide_activations: activations in the order in which products of 256 columns take them from shared memory (wide.cu).
// Behind mma.cu.
//
//   XP_PAIRS   1: two numbers in a word are columns 16 apart, as coded_wide has them; 0: 8
//
// In:     x (n, cols), x_stride elements from row to row, type XP_X; gains float16 or null, `largest` as xp_activation has it.
// Out:    elements[((((pass * quads + Q) * 8 + u) * 2 + half) * 256 + column) * 8 + 2 t + e]: activation
//         col = 128 Q + 32 t + 16 half + 8 e + u, where XP_PAIRS 128 Q + 32 t + 16 e + 2 u + half, of column 256 pass + column;
//         0 where there is none.
// Launch: any grid; a thread has 8 elements, a warp 4 columns and all u, so that it reads 16 bytes and writes 64 end to end.
// Bytes:  x once, elements once.

#ifndef XP_PAIRS
#define XP_PAIRS 0
#endif

extern "C" __global__ void __launch_bounds__(256, 1)
wide_activations(const unsigned short* __restrict__ x, const unsigned short* __restrict__ gains, u64 largest, i64 x_stride,
                 i64 n, i64 cols, i64 quads, i64 passes, uint4* __restrict__ elements) {
    const i64 all = passes * quads * 4096;
    for (i64 at = blockIdx.x * (i64)blockDim.x + threadIdx.x; at < all; at += (i64)gridDim.x * blockDim.x) {
        const int u = (int)(at & 7), half = (int)(at >> 11 & 1), column = (int)(at >> 3 & 255);
        const i64 quad = at >> 12, pass = quad / quads, row = pass * 256 + column;
        const i64 first = (quad - pass * quads) * 128 + (XP_PAIRS ? 2 * u + half : 16 * half + u);
        u32 parts[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const i64 col = first + 32 * (k >> 1) + (XP_PAIRS ? 16 : 8) * (k & 1);
            parts[k] = row < n && col < cols ? xp_activation(x, row * x_stride + col, gains, col, largest) : 0;
        }
        elements[(quad * 16 + 2 * u + half) * 256 + column] = make_uint4(
            parts[0] | parts[1] << 16, parts[2] | parts[3] << 16, parts[4] | parts[5] << 16, parts[6] | parts[7] << 16);
    }
}
