// Words by the table of taps: any network, any layout. And where rows and masks lie.

// x / n with the reciprocal of n: the estimate is at most one too small.
__device__ __forceinline__ i64 xp_divide(i64 x, i64 n, u64 by_n, i64& rest) {
    i64 quotient = (i64)__umul64hi((u64)x, by_n);
    rest = x - quotient * n;
    if (rest >= n) {
        ++quotient;
        rest -= n;
    }
    return quotient;
}

__device__ __forceinline__ u32 xp_rotate(u32 word, u32 left) {
    return __funnelshift_l(word, word, left);
}

__device__ __forceinline__ i64 xp_row(const Order& o, i64 i) {
    i64 row;
    xp_divide(i * o.row_stride, o.rows, o.by_rows, row);
    return row;
}

// Where the mask of word k of row index i of panel p lies.
__device__ __forceinline__ i64 xp_mask_at(const Order& o, i64 p, i64 i, int k) {
    return (p * o.rows + i) * o.panel_chunks + (XP_SKEW ? (k - (int)(i & 31)) & 31 : k);
}

__device__ __forceinline__ u32 xp_mask(const Order& o, const u32* mask, i64 p, i64 i, int k) {
    if (k >= o.panel_chunks) return 0;
#if XP_MASK
    return mask[xp_mask_at(o, p, i, k)];
#else
    const i64 left = o.cols - 32 * (p * o.panel_chunks + k);
    return left >= 32 ? 0xFFFFFFFF : left <= 0 ? 0 : (1u << left) - 1;
#endif
}

// One word of every coded plane, by the table: panel p, row index i, chunk k of the panel.
__device__ __forceinline__ void xp_words(const Order& o, const u32* code, const u32* taps, i64 p, i64 i, int k,
                                         u32 (&words)[XP_ARRAY]) {
#pragma unroll
    for (int j = 0; j < XP_ARRAY; ++j) words[j] = 0;
    if (XP_PLANES == 0 || o.m_lane == 0) return;
    const int turn = (int)(o.n_sub * o.lanes);
    int slot = (k - (int)(i % turn)) % turn;  // turn <= 62
    if (slot < 0) slot += turn;
    const int c = slot / (int)o.lanes;
    const int lane = slot - c * (int)o.lanes;
    i64 s, row, unused;
    const i64 segment = xp_divide((p * o.rows + i) * o.n_sub + c, o.n_steps, o.by_steps, s);
    const i64 start = o.n_in * xp_divide((s - s % XP_HOLD) * o.num, o.den, o.by_den, unused);
    xp_divide(s, o.n_distinct, o.by_distinct, row);
    const u32* tap = taps + row * (XP_TAPS + 1);
    const u32* ring = code + segment * o.m_lane * XP_PLANES * o.lanes;
    const int n = (int)*tap;
    for (int a = 1; a <= n; ++a) {
        i64 x = start + (tap[a] >> 5);
        i64 from = lane;
        if (x >= o.m_lane) {
            const i64 turns = x / o.m_lane;
            x -= turns * o.m_lane;
            from = (lane + turns) % o.lanes;
        }
        const u32* word = ring + x * XP_PLANES * o.lanes + from;
#pragma unroll
        for (int j = 0; j < XP_PLANES; ++j) words[j] ^= xp_rotate(word[j * o.lanes], tap[a] & 31);
    }
}
