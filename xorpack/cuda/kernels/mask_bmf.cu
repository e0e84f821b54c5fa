// The mask codec `bmf`: one kernel.
//
// In:     order; left, right: the bits of the factors as they stand in the file, from the first bit of a word each,
//         one word of padding behind. Bit ((r * n_tiles + tile) * rank + q) of left: row r is in pattern q of its
//         tile; bit ((r / tile_rows * rank + q) * cols + c) of right: column c is. tile_words = tile_cols / 32.
// Out:    mask in order of visits, every word: OR over q of left & right, 0 where there is no chunk.
// Launch: any grid and block, no shared memory; a thread has a word.
// Bytes:  factors from caches, mask written once. Oracle: xorpack.masks.bmf.decode.

// 32 bits from bit `at` on.
__device__ __forceinline__ u32 xp_bits(const u32* data, i64 at) {
    const u32* word = data + (at >> 5);
    return at & 31 ? word[0] >> (at & 31) | word[1] << (32 - (at & 31)) : word[0];
}

extern "C" __global__ void __launch_bounds__(256, 1)
bmf_product(XP_ORDER, const u32* __restrict__ left, const u32* __restrict__ right, i64 rank, i64 tile_rows,
            i64 tile_words, i64 n_tiles, u32* __restrict__ mask) {
    const Order o = {XP_ORDER_NAMES};
    const i64 n = o.n_panels * o.rows * o.panel_chunks;
    for (i64 at = blockIdx.x * (i64)blockDim.x + threadIdx.x; at < n; at += (i64)gridDim.x * blockDim.x) {
        i64 i;
        const i64 visit = at / o.panel_chunks, p = xp_divide(visit, o.rows, o.by_rows, i);
        const int k = (int)(at - visit * o.panel_chunks);
        const i64 chunk = p * o.panel_chunks + k, row = xp_row(o, i);
        u32 found = 0;
        if (chunk < o.chunks) {
            const i64 first = (row * n_tiles + chunk / tile_words) * rank, strip = row / tile_rows * rank;
            for (i64 q = 0; q < rank; ++q)
                if (left[(first + q) >> 5] >> ((first + q) & 31) & 1)
                    found |= xp_bits(right, (strip + q) * o.cols + 32 * chunk);
            const i64 columns = o.cols - 32 * chunk;
            if (columns < 32) found &= (1u << columns) - 1;
        }
        mask[xp_mask_at(o, p, i, k)] = found;
    }
}
