// decode_dense, then correct_dense: code to weights.
//
//   XP_LOSSLESS  0: bcq; 1, 2, 4: bytes of an element whose bits are the planes
//   XP_OWN, XP_ELEMENT   bcq: common.cu
//
// In:     order, code, taps, mask, scales (see common.cu); row indices i_first .. i_last - 1.
// Out:    elements, row-major (rows, cols): row r where by_index is 0; row i - i_first where it is 1, for a product
//         tile by tile. Every element is written once, pruned ones +0. A field's bits are still those of codewords:
//         decode_field comes next. Words that corrections mend are still wrong: correct_dense, launched last with one
//         thread a correction, overwrites their elements.
// Launch: any grid; blocks of whole warps, at most 256 threads; XP_TILE_WORDS * 4 bytes of shared memory a warp.
//         A warp takes tiles of 16 row indices of a panel; then a lane has 8 columns of a row at a time, so that
//         a warp writes 256 of them end to end, 16 bytes a store.
// Bytes:  code, mask, scales read once, out written once. About (3 + 2 q) instructions an element: bound by the
//         writes for float16 and q = 2.
// Exact:  sums in float32 from 0, plane by plane, subnormals kept whatever -ftz says (xp_add).
// Oracle: reference.decode_dense.

#ifndef XP_LOSSLESS
#define XP_LOSSLESS 0
#endif
#if XP_LOSSLESS
#define XP_BYTES XP_LOSSLESS
#else
#define XP_BYTES (XP_ELEMENT ? 2 : 4)
#endif
#if XP_BYTES == 4
typedef u32 Element;
#elif XP_BYTES == 2
typedef unsigned short Element;
#else
typedef unsigned char Element;
#endif
#if XP_LOSSLESS
typedef Element Value;
#else
typedef Mend Value;
#endif

// Bits of the element whose planes are `bits`, with the scales at `at`.
__device__ __forceinline__ Element xp_element(const Scales& scales, i64 at, u32 bits) {
#if XP_LOSSLESS
    return (Element)bits;
#else
    float total = 0.0f;
#pragma unroll
    for (int j = 0; j < XP_BITS; ++j) {
        const u32 alpha = __float_as_uint(xp_load(scales.data, at + j, XP_SCALE));
        total = xp_add(total, __uint_as_float(alpha ^ (~bits >> j & 1) << 31));
    }
    return (Element)xp_rounded(total, XP_OWN, XP_ELEMENT);
#endif
}

extern "C" __global__ void __launch_bounds__(256, 1)
decode_dense(XP_ORDER, const u32* __restrict__ code, const u32* __restrict__ taps, const u32* __restrict__ mask,
             XP_SCALES, i64 i_first, i64 i_last, i64 by_index, void* __restrict__ out) {
    const Order o = {XP_ORDER_NAMES};
    const Scales scales = {XP_SCALES_NAMES};
    const int lane = threadIdx.x & 31;
    xp_tiles(o, code, taps, i_first, i_last, [&](i64 p, i64 i0, int n, const u32* tile) {
        for (int u = 0; u < n; ++u) {
            const i64 i = i0 + u;
            const i64 row = by_index ? i - i_first : xp_row(o, i);
            for (int k = lane >> 2; k < o.panel_chunks; k += 8) {
                const int shift = 8 * (lane & 3);
                const i64 col = (p * o.panel_chunks + k) * 32 + shift;
                if (col >= o.cols) continue;
                const u32 kept = xp_mask(o, mask, p, i, k) >> shift & 0xFF;
                u32 bits[8];
#pragma unroll
                for (int e = 0; e < 8; ++e) bits[e] = 0;
                int coded = 0;
#pragma unroll
                for (int j = 0; j < XP_BITS; ++j) {
                    if ((u32)XP_ZEROS >> j & 1) continue;
                    u32 plane = kept;
                    if (!((u32)XP_ONES >> j & 1))
                        plane = kept & tile[(coded++ * XP_TILE_ROWS + u) * XP_TILE_STRIDE + k] >> shift;
#pragma unroll
                    for (int e = 0; e < 8; ++e) bits[e] |= (plane >> e & 1) << j;
                }
                Element elements[8];
                i64 at = XP_LOSSLESS ? 0 : scales.at(p, i, col);
                const bool one_group = XP_LOSSLESS || scales.at(p, i, col + 7) == at;
#pragma unroll
                for (int e = 0; e < 8; ++e) {
                    if (!one_group && col + e < o.cols) at = scales.at(p, i, col + e);
                    elements[e] = kept >> e & 1 ? xp_element(scales, at, bits[e]) : (Element)0;
                }
                xp_store_8((Element*)out + row * o.cols + col, elements, o.cols - col);
            }
        }
    });
}

extern "C" __global__ void __launch_bounds__(256, 1)
correct_dense(XP_ORDER, XP_SCALES, const u32* __restrict__ starts, const unsigned short* __restrict__ entries,
              const Value* __restrict__ values, i64 n, i64 i_first, i64 i_last, i64 by_index, void* __restrict__ out) {
    const Order o = {XP_ORDER_NAMES};
    const i64 tiles = xp_col_tiles(o);
    for (i64 at = blockIdx.x * (i64)blockDim.x + threadIdx.x; at < n; at += (i64)gridDim.x * blockDim.x) {
        const i64 tile = xp_list_of(starts, (o.rows + 31) / 32 * tiles, at), strip = tile / tiles;
        const i64 i = strip * 32 + (entries[at] & 31);
        if (i < i_first || i >= i_last) continue;
        const i64 col = (tile - strip * tiles) * XP_TILE_COLS + (entries[at] >> 5);
        Element* to = (Element*)out + (by_index ? i - i_first : xp_row(o, i)) * o.cols + col;
#if XP_LOSSLESS
        *to = values[at];
#else
        const Scales scales = {XP_SCALES_NAMES};
        *to = xp_element(scales, scales.at(col / (32 * o.panel_chunks), i, col), values[at] >> XP_VALUE_BITS);
#endif
    }
}
