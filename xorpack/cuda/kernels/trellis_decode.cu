// trellis_decode, then trellis_outliers: a trellis tensor to weights. Behind trellis.cu.
//
//   XP_OWN, XP_ELEMENT   common.cu
//
// In:     weights (trellis.cu); the mask in order of visits with a row stride of 1 (common.cu); rows first .. last - 1.
// Out:    elements, row-major, row r at r - first. Every element is written once, pruned ones +0; outliers are
//         still what the trellis gives: trellis_outliers comes next, a thread an outlier, and overwrites them.
// Launch: any grid; blocks of whole warps; no shared memory. A warp has a run of 16 rows of a panel of 32 chunks: lane
//         k makes the words of chunk k, then lanes have 8 columns each, so that a warp writes 256 end to end.
// Bytes:  code read once from memory (a row's window overlaps the next one's: caches), out written once. About
//         (2 q + 5) instructions an element.
// Exact:  float32, one rounding an operation, subnormals kept whatever -ftz says, no contraction.
// Oracle: reference.decode_dense.

#if XP_ELEMENT == 0
typedef u32 Element;
#else
typedef unsigned short Element;
#endif

extern "C" __global__ void __launch_bounds__(256, 1)
trellis_decode(XP_WEIGHTS, const u32* __restrict__ mask, i64 panel_chunks, i64 n_panels, i64 first, i64 last,
               void* __restrict__ out) {
    const Weights w = {XP_WEIGHTS_NAMES};
    const int lane = threadIdx.x & 31, shift = 8 * (lane & 3);
    const i64 runs = (last - first + 15) / 16, n_warps = (i64)gridDim.x * (blockDim.x >> 5);
    for (i64 item = blockIdx.x * (i64)(blockDim.x >> 5) + (threadIdx.x >> 5); item < runs * n_panels; item += n_warps) {
        const i64 p = item / runs, r0 = first + (item - p * runs) * 16, until = min(last, r0 + 16);
        const i64 chunk = p * panel_chunks + lane;
        for (i64 row = r0; row < until; ++row) {
            u32 words[XP_BITS];
#pragma unroll
            for (int j = 0; j < XP_BITS; ++j) words[j] = 0;
            if (lane < panel_chunks && chunk < chunks) w.planes(row, chunk, words);
            for (int part = 0; part < 32 && part < panel_chunks; part += 8) {
                const int k = part + (lane >> 2);
                u32 planes[XP_BITS];
#pragma unroll
                for (int j = 0; j < XP_BITS; ++j) planes[j] = __shfl_sync(0xFFFFFFFF, words[j], k) >> shift;
                const i64 col = (p * panel_chunks + k) * 32 + shift;
                if (k >= panel_chunks || col >= cols) continue;
                u32 kept = 0xFF;
#if XP_MASK
                const i64 at = (p * rows + row) * panel_chunks;
                kept = mask[at + (XP_SKEW ? (k - (int)(row & 31)) & 31 : k)] >> shift & 0xFF;
#endif
                float alphas[XP_BITS];
                Element elements[8];
                i64 rest;
                i64 g = xp_divide(col, group, by_group, rest);
                w.alphas(xp_load(scales, row * n_groups + g, XP_SCALE), alphas);
#pragma unroll
                for (int e = 0; e < 8; ++e) {
                    elements[e] = 0;
                    if (col + e >= cols) continue;
                    if (e && ++rest >= group) {
                        rest = 0;
                        w.alphas(xp_load(scales, row * n_groups + ++g, XP_SCALE), alphas);
                    }
                    if (kept >> e & 1)
                        elements[e] = (Element)xp_rounded(w.weight(planes, e, alphas, col + e), XP_OWN, XP_ELEMENT);
                }
                xp_store_8((Element*)out + (row - first) * cols + col, elements, cols - col);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(256, 1)
trellis_outliers(i64 rows, i64 cols, const u32* __restrict__ starts, const unsigned short* __restrict__ entries,
                 const unsigned short* __restrict__ values, i64 n, u64 unit, i64 first, i64 last,
                 void* __restrict__ out) {
    const i64 tiles = (cols + XP_TILE_COLS - 1) / XP_TILE_COLS;
    for (i64 at = blockIdx.x * (i64)blockDim.x + threadIdx.x; at < n; at += (i64)gridDim.x * blockDim.x) {
        const i64 tile = xp_list_of(starts, (rows + 31) / 32 * tiles, at), strip = tile / tiles;
        const i64 row = strip * 32 + (entries[at] >> 11);
        if (row < first || row >= last) continue;
        const i64 col = (tile - strip * tiles) * XP_TILE_COLS + (entries[at] & 2047);
        const float value = xp_times(xp_from_half(values[at]), __uint_as_float((u32)unit));
        ((Element*)out)[(row - first) * cols + col] = (Element)xp_rounded(value, XP_OWN, XP_ELEMENT);
    }
}
