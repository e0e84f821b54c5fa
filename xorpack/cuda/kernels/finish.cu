// finish: partial sums and corrections to the product.
//
// In:     partial[column * parts * rows + part * rows + i], float32, parts of row index i; corrections in tiles
//         (common.cu); x and scales as in matvec.
// Out:    out[column * out_stride + r], type out_type: the parts of a row from first to last, then its corrections
//         in order, in float32.
// Launch: grid (ceil(rows / 256), n), 256 threads; no shared memory. A lane has a row index, and looks through the
//         corrections of its warp's 32 for its own: few, and all lanes read the same one.
// Bytes:  partial and corrections once, out once.

extern "C" __global__ void __launch_bounds__(256, 1)
finish(XP_ORDER, XP_SCALES, const float* __restrict__ partial, i64 parts, const u32* __restrict__ starts,
       const unsigned short* __restrict__ entries, const Mend* __restrict__ values, i64 n_corrections,
       const void* __restrict__ x, i64 x_type, i64 x_stride, void* __restrict__ out, i64 out_type, i64 out_stride) {
    const Order o = {XP_ORDER_NAMES};
    const Scales scales = {XP_SCALES_NAMES};
    const i64 i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= o.rows) return;
    const float* part = partial + blockIdx.y * parts * o.rows + i;
    float sum = 0.0f;
    for (i64 p = 0; p < parts; ++p) sum += part[p * o.rows];
    if (n_corrections)
        sum = xp_corrected(o, scales, starts, entries, values, i, x, (int)x_type, blockIdx.y * x_stride, sum);
    xp_store(out, blockIdx.y * out_stride + xp_row(o, i), (int)out_type, sum);
}
