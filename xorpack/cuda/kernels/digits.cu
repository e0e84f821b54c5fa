// digits: activations as operands of binary tensor cores. Behind binary.cu.
//
//   XP_PANEL     chunks of a panel that have a place, a multiple of 8; the first panel_chunks of them exist
//   XP_RUN       chunks of a lane that lie side by side: lane t of four has chunks k with k / XP_RUN % 4 = t, the 2 p-th
//                and the one behind it for operands of `part` p
//   XP_COLUMNS   columns whose operands lie side by side
//
// In:     gains or null; x (n, cols), type x_type, x_stride elements from row to row.
// Out:    fragments[(((at * XP_PANEL / 8 + part) * XP_PRODUCTS + i) * XP_COPIES + copy) * 32 + lane] and units[4 * at + t],
//         what a digit t counts, where columns z * XP_COLUMNS + c of a panel lie side by side: at = (z * n_panels + p) * XP_COLUMNS + c.
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
#define XP_FIGURES (2 * XP_PRODUCTS)

// The largest number that digits have, as all four are at their most; and the power of two below it.
__device__ constexpr int xp_most() {
    const int top = xp_power(XP_COPIES + 1, XP_FIGURES - 1), ones = 1 + XP_BASE * (1 + XP_BASE * (1 + XP_BASE));
    return (top - 1) * ones;
}
__device__ constexpr int xp_log2(u32 n) { return n > 1 ? 1 + xp_log2(n / 2) : 0; }

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
    // The unit is a power of two by which the largest is at most xp_most().
    constexpr int limit = xp_most(), bits = xp_log2(limit);
    constexpr u32 fraction = ((u32)limit << (23 - bits)) - (1u << 23);
    const bool finite = most < 0x7F800000;
    const u32 exponent = max(most >> 23, (u32)bits + 2) + ((most & 0x7FFFFF) > fraction);
    const float inverse = __uint_as_float((254 + bits - exponent) << 23);
    // Digits count from their least.
    constexpr int base = XP_COPIES + 1, least = xp_power(base, XP_FIGURES - 1) * XP_COPIES;
    u32 rest = finite ? (u32)((int)rintf(value * inverse) + limit / (xp_power(base, XP_FIGURES - 1) - 1) * least) : 0;
    u32 mine = 0;
#pragma unroll
    for (int figure = 0; figure < 4 * XP_FIGURES; ++figure) {
        const u32 higher = rest / base;
        u32 ones = rest - higher * base;
        if (figure % XP_FIGURES == XP_FIGURES - 1) ones = XP_COPIES - ones;
        rest = higher;
#pragma unroll
        for (int copy = 0; copy < XP_COPIES; ++copy) {
            const u32 word = __ballot_sync(0xFFFFFFFF, ones > copy);
            if (lane == figure * XP_COPIES + copy) mine = word;
        }
    }
    if (lane < 4 * XP_FIGURES * XP_COPIES) {
        const int copy = lane % XP_COPIES, figure = lane / XP_COPIES % XP_FIGURES, digit = lane / XP_COPIES / XP_FIGURES;
        const int t = k / XP_RUN % 4, own = k / (4 * XP_RUN) * XP_RUN + k % XP_RUN;  // the lane, and which of its chunks
        const int i = figure >> 1, column = 2 * digit + (figure & 1);
        const i64 fragment = ((at * (XP_PANEL / 8) + own / 2) * XP_PRODUCTS + i) * XP_COPIES + copy;
        fragments[(fragment * 32 + column * 4 + t) * 2 + (own & 1)] = mine;
    }
    if (threadIdx.x < 4) units[4 * at + threadIdx.x] = __uint_as_float(finite ? (exponent - bits) << 23 : 0x7FC00000) * xp_worth(threadIdx.x);
}
