// trellis_finish: partial sums of a trellis tensor and its outliers to the product. Behind trellis.cu.
//
// In:     partial[(column * parts + part) * rows + r], float32; weights (trellis.cu); x as in matvec.
//         per_part 0: partial sums are of the weights themselves. Else of weights without their scale, per_part
//         columns a part. n_outliers 0 where sums have outliers already.
// Out:    out[column * out_stride + r], type out_type: parts by their scales, from first to last; then outliers by
//         column: the outlier counted and what the trellis gives in its place taken away. All in float32.
// Launch: grid (ceil(rows / 256), n), 256 threads; no shared memory. A lane has a row.
// Bytes:  partial and scales once, out once; of an outlier the entry, the value and XP_WINDOW words.

extern "C" __global__ void __launch_bounds__(256, 1)
trellis_finish(XP_WEIGHTS, const float* __restrict__ partial, i64 parts, i64 per_part,
               const u32* __restrict__ starts, const unsigned short* __restrict__ entries,
               const unsigned short* __restrict__ values, i64 n_outliers, u64 unit, const void* __restrict__ x,
               i64 x_type, i64 x_stride, void* __restrict__ out, i64 out_type, i64 out_stride) {
    const Weights w = {XP_WEIGHTS_NAMES};
    const i64 row = blockIdx.x * 256ll + threadIdx.x;
    if (row >= rows) return;
    const float* part = partial + blockIdx.y * parts * rows + row;
    float sum = 0.0f;
    for (i64 p = 0; p < parts; ++p)
        sum = fmaf(per_part ? w.scale(row, p * per_part) : 1.0f, part[p * rows], sum);
    if (n_outliers) {
        const i64 tiles = (cols + XP_TILE_COLS - 1) / XP_TILE_COLS;
        const u32* start = starts + (row >> 5) * tiles;
        const u32 own = (u32)(row & 31) << 11;
        for (i64 tile = 0; tile < tiles; ++tile) {
            u32 n = start[tile], high = start[tile + 1];
            const u32 last = high;
            while (n < high) {  // the first entry of this row
                const u32 middle = n + (high - n) / 2;
                if (entries[middle] < own) n = middle + 1;
                else high = middle;
            }
            for (; n < last && entries[n] >> 11 == own >> 11; ++n) {
                const i64 col = tile * XP_TILE_COLS + (entries[n] & 2047);
                u32 words[XP_BITS];
                float alphas[XP_BITS];
                w.planes(row, col >> 5, words);
                w.alphas(w.scale(row, col), alphas);
                const float value = xp_times(xp_from_half(values[n]), __uint_as_float((u32)unit));
                const float delta = value - w.weight(words, (int)(col & 31), alphas, col);
                sum = fmaf(delta, xp_load(x, blockIdx.y * x_stride + col, (int)x_type), sum);
            }
        }
    }
    xp_store(out, blockIdx.y * out_stride + row, (int)out_type, sum);
}
