// decode_words: code to plane words.
//
// In:     order, code, taps, mask (see common.cu).
// Out:    out[(plane * rows + r) * chunks + chunk], uint32, ANDed with the mask; every word is written once.
// Launch: any grid; blocks of whole warps; XP_TILE_WORDS * 4 bytes of shared memory a warp. A warp takes tiles of 16
//         row indices of a panel; XP_PLANES planes at once.
// Bytes:  code read once from memory (a tile's window overlaps its neighbours': caches), out written once, in
//         pieces of 4 * panel_chunks bytes.
// Cost:   a word takes 3 three-input XORs, a funnel shift (of a quasi-cyclic network 6) and about 3 instructions of window
//         and loop, then one store to shared memory, one load, one store: some 15 (20) for 4 bytes written.
// Oracle: reference.expand.

extern "C" __global__ void __launch_bounds__(256, 1)
decode_words(XP_ORDER, const u32* __restrict__ code, const u32* __restrict__ taps, const u32* __restrict__ mask,
             u32* __restrict__ out) {
    const Order o = {XP_ORDER_NAMES};
    const int lane = threadIdx.x & 31;
    xp_tiles(o, code, taps, 0, o.rows, [&](i64 p, i64 i0, int n, const u32* tile) {
        const i64 chunk = p * o.panel_chunks + lane;
        if (lane >= o.panel_chunks || chunk >= o.chunks) return;
        for (int u = 0; u < n; ++u) {
            const i64 at = xp_row(o, i0 + u) * o.chunks + chunk;
            const u32 kept = xp_mask(o, mask, p, i0 + u, lane);
#pragma unroll
            for (int j = 0; j < XP_PLANES; ++j)
                out[j * o.rows * o.chunks + at] = tile[(j * XP_TILE_ROWS + u) * XP_TILE_STRIDE + lane] & kept;
        }
    });
}
