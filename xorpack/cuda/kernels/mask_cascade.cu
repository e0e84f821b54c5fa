// The mask codec `cascade`: two kernels, in this order, then flip.
//
// cascade_candidates  XP_PLANES = n_filters; order and code of the filters. Writes the positions where every filter
//                     agrees with its target: all visits, all panel_chunks.
// cascade_last        XP_PLANES = 1; order (its m_lane is m_last) and code of the last plane. mask &= last.
//
// Launch: as decode_words. Bytes: codes read once, mask written, read and written.
// Oracle: xorpack.masks.cascade.decode.

__device__ __forceinline__ u32 xp_target(u32 row, u32 chunk, u32 k) {
    u32 x = row * 0x9E3779B1u + chunk * 0x85EBCA77u + (k + 1) * 0xC2B2AE3Du;
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

template <bool LAST>
__device__ __forceinline__ void xp_mask_pass(const Order& o, const u32* code, const u32* taps, u32* mask) {
    const int lane = threadIdx.x & 31;
    xp_tiles(o, code, taps, 0, o.rows, [&](i64 p, i64 i0, int n, const u32* tile) {
        if (lane >= o.panel_chunks) return;
        const i64 chunk = p * o.panel_chunks + lane;
        const i64 left = o.cols - 32 * chunk;
        const u32 exists = left >= 32 ? 0xFFFFFFFF : left <= 0 ? 0 : (1u << left) - 1;
        for (int u = 0; u < n; ++u) {
            u32* to = mask + xp_mask_at(o, p, i0 + u, lane);
            u32 found = exists;
            if (LAST) {
                found = *to & tile[u * XP_TILE_STRIDE + lane];
            } else {
                const u32 row = (u32)xp_row(o, i0 + u);
#pragma unroll
                for (int j = 0; j < XP_PLANES; ++j)
                    found &= ~(tile[(j * XP_TILE_ROWS + u) * XP_TILE_STRIDE + lane] ^ xp_target(row, (u32)chunk, j));
            }
            *to = found;
        }
    });
}

extern "C" __global__ void __launch_bounds__(256, 1)
cascade_candidates(XP_ORDER, const u32* __restrict__ code, const u32* __restrict__ taps, u32* __restrict__ mask) {
    const Order o = {XP_ORDER_NAMES};
    xp_mask_pass<false>(o, code, taps, mask);
}

extern "C" __global__ void __launch_bounds__(256, 1)
cascade_last(XP_ORDER, const u32* __restrict__ code, const u32* __restrict__ taps, u32* __restrict__ mask) {
    const Order o = {XP_ORDER_NAMES};
    xp_mask_pass<true>(o, code, taps, mask);
}
