// digits: activations as operands of binary tensor cores (binary.cu).
//
//   XP_PANEL     chunks of a panel that have a place, a multiple of 8; the first panel_chunks of them exist
//   XP_RUN       chunks of a lane that lie side by side: lane t of four has chunks k with k / XP_RUN % 4 = t, the 2 p-th
//                and the one behind it for product `part` p
//   XP_COLUMNS   columns whose operands lie side by side
//
// In:     gains or null; x (n, cols), type x_type, x_stride elements from row to row.
// Out:    fragments[((at * XP_PANEL / 8 + part) * 3 + i) * 32 + lane] and units[at], where columns z * XP_COLUMNS + c of a
//         panel lie side by side: at = (z * n_panels + p) * XP_COLUMNS + c.
// Launch: grid (n_panels, n), XP_PANEL warps, 4 * XP_PANEL bytes of shared memory. A thread has an activation, a ballot
//         makes a word of bits.
#ifndef XP_PANEL
#define XP_PANEL 32
#endif
#ifndef XP_RUN
#define XP_RUN 1
#endif
#ifndef XP_COLUMNS
#define XP_COLUMNS 1
#endif

extern "C" __global__ void __launch_bounds__(XP_PANEL * 32, 1)
digits(i64 cols, i64 panel_chunks, const unsigned short* __restrict__ gains, const void* __restrict__ x, i64 x_type, i64 x_stride,
             u32* __restrict__ fragments, float* __restrict__ units) {
    const int lane = threadIdx.x & 31, k = threadIdx.x >> 5;
    const i64 col = (blockIdx.x * panel_chunks + k) * 32 + lane;
    const i64 at = (blockIdx.y / XP_COLUMNS * (i64)gridDim.x + blockIdx.x) * XP_COLUMNS + blockIdx.y % XP_COLUMNS;
    float value = 0.0f;
    if (k < panel_chunks && col < cols) {
        value = xp_load(x, blockIdx.y * x_stride + col, (int)x_type);
        if (gains) value *= xp_from_half(gains[col]);
    }
    u32 most = __float_as_uint(value) & 0x7FFFFFFF;
#pragma unroll
    for (int distance = 16; distance >= 1; distance /= 2)
        most = max(most, __shfl_xor_sync(0xFFFFFFFF, most, distance));
    u32* largest = xp_shared();
    if (lane == 0) largest[k] = most;
    __syncthreads();
#pragma unroll
    for (int warp = 0; warp < XP_PANEL; ++warp) most = max(most, largest[warp]);
    // The unit is a power of two by which the largest is at most 8255455 = 31 * (1 + 64 + 64^2 + 64^3).
    const bool finite = most < 0x7F800000;
    const u32 exponent = max(most >> 23, 24u) + ((most & 0x7FFFFF) > 0x7BEF00);
    const float inverse = __uint_as_float((276 - exponent) << 23);
    const u32 digits = finite ? ((u32)(int)rintf(value * inverse) + 0x820820) ^ 0x820820 : 0;  // 6 bits each
    u32 mine = 0;
#pragma unroll
    for (int bit = 0; bit < 24; ++bit) {
        const u32 word = __ballot_sync(0xFFFFFFFF, digits >> bit & 1);
        if (lane == bit) mine = word;
    }
    if (lane < 24) {
        const int digit = lane / 6, bit = lane % 6, column = 2 * digit + (bit & 1);
        const int t = k / XP_RUN % 4, own = k / (4 * XP_RUN) * XP_RUN + k % XP_RUN;  // the lane, and which of its chunks
        const i64 fragment = (at * (XP_PANEL / 8) + own / 2) * 3 + (bit >> 1);
        fragments[(fragment * 32 + column * 4 + t) * 2 + (own & 1)] = mine;
    }
    if (threadIdx.x == 0) units[at] = __uint_as_float(finite ? (exponent - 22) << 23 : 0x7FC00000);
}
