// decode_field: the first bits of codewords in lossless elements to symbols.
//
//   XP_LOSSLESS  1, 2, 4: bytes of an element
//
// In:     out as decode_dense leaves it: bits low .. low + n_raw - 1 of a kept element begin its codeword; plane of
//         depths, corrected, row-major: words (row * n_words + chunk) * n_depths .. are of a chunk's 32 elements
//         (xp_place); mask; the code (xp_symbol).
// Out:    bits low .. low + width - 1 of kept elements: the symbol.
// Launch: any grid, blocks of whole warps, no shared memory. A warp has a visit and takes its chunks one by one, a lane
//         an element. Row indices, by_index: as in decode_dense.
// Bytes:  out read and written, plane and mask once. Oracle: xorpack.symbols.

#ifndef XP_LOSSLESS
#define XP_LOSSLESS 2
#endif
#if XP_LOSSLESS == 4
typedef u32 Element;
#elif XP_LOSSLESS == 2
typedef unsigned short Element;
#else
typedef unsigned char Element;
#endif

extern "C" __global__ void __launch_bounds__(256, 1)
decode_field(XP_ORDER, const u32* __restrict__ plane, const u32* __restrict__ mask, const u32* __restrict__ runs,
             const u32* __restrict__ symbols, i64 n_runs, i64 low, i64 width, i64 n_raw, i64 n_depths, i64 stride,
             i64 n_words, i64 i_first, i64 i_last, i64 by_index, void* __restrict__ out) {
    const Order o = {XP_ORDER_NAMES};
    const int lane = threadIdx.x & 31, from = xp_place(n_depths, stride);
    const u32 raw = (1u << n_raw) - 1, field = (width < 32 ? (1u << width) - 1 : 0xFFFFFFFF) << low;
    const i64 n = i_last - i_first, n_warps = (i64)gridDim.x * (blockDim.x >> 5);
    for (i64 item = blockIdx.x * (i64)(blockDim.x >> 5) + (threadIdx.x >> 5); item < n * o.n_panels; item += n_warps) {
        const i64 p = item / n, i = i_first + (item - p * n), row = xp_row(o, i);
        const u32 mine = xp_mask(o, mask, p, i, lane);
        Element* to = (Element*)out + (by_index ? i - i_first : row) * o.cols;
        for (int k = 0; k < o.panel_chunks; ++k) {
            const u32 kept = __shfl_sync(0xFFFFFFFF, mine, k);
            if (kept == 0) continue;
            const i64 chunk = p * o.panel_chunks + k;
            const u32 deep = lane < n_depths ? plane[(row * n_words + chunk) * n_depths + from] : 0;
            const u32 tail = xp_transpose(deep);
            if (!(kept >> lane & 1)) continue;
            const u32 element = to[32 * chunk + lane];
            const u32 symbol = xp_symbol(runs, n_runs, symbols, (element >> low & raw) << n_depths | tail);
            to[32 * chunk + lane] = (Element)((element & ~field) | symbol << low);
        }
    }
}
