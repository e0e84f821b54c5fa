// In front of the trellis kernels: the network as constants, and the words of a row.
//
//   XP_BITS              planes (q)
//   XP_N_IN, XP_N_OUT    stored bits for so many weights
//   XP_WINDOW            stored bits that a weight depends on (L)
//   XP_NETWORK           {{mask, ...}, ...}: XP_N_OUT rows of XP_BITS; bit a says whether age a is a tap
//
// Code is code[i * chunks + chunk]: stored bit i of the 32 columns of a chunk, i < m. Row r of plane j is the XOR over
// the ages a in XP_NETWORK[r % n_out][j] of code word (end(r) - 1 - a) mod m, end(r) = ceil((r + 1) n_in / n_out).
// Scales are scales[r * n_groups + column / group], type XP_SCALE; a[j] float32; gains float16 or null.
// Outliers lie in tiles of 32 rows x 2048 columns: tile w = r / 32 * col_tiles + col / 2048 is entries[starts[w]] ..
// entries[starts[w + 1] - 1], an entry is r % 32 << 11 | col % 2048, rising in a tile; values are float16, of a unit.
// Equation: xorpack/code/trellis.py. Arithmetic of a weight: xorpack.tensors.TrellisTensor.

#ifndef XP_N_IN
#define XP_N_IN 2
#define XP_N_OUT 1
#define XP_WINDOW 12
#define XP_NETWORK {{0xA91u, 0xD12u}}
#endif

__device__ constexpr u32 xp_network[XP_N_OUT][XP_BITS] = XP_NETWORK;

#define XP_WEIGHTS                                                                                               \
    i64 rows, i64 cols, i64 chunks, const u32 *__restrict__ code, i64 m, const void *__restrict__ scales,        \
        i64 group, i64 n_groups, u64 by_group, const float *__restrict__ a, const unsigned short *__restrict__ gains
#define XP_WEIGHTS_NAMES rows, cols, chunks, code, m, scales, group, n_groups, by_group, a, gains

struct Weights {
    i64 rows, cols, chunks;
    const u32* code;
    i64 m;
    const void* scales;
    i64 group, n_groups;
    u64 by_group;
    const float* a;
    const unsigned short* gains;

    // The stored words that a row's planes are of, newest first.
    __device__ __forceinline__ void window(i64 row, i64 chunk, u32 (&words)[XP_WINDOW]) const {
        i64 i = ((row + 1) * XP_N_IN + XP_N_OUT - 1) / XP_N_OUT - 1;
#pragma unroll
        for (int age = 0; age < XP_WINDOW; ++age) {
            words[age] = code[i * chunks + chunk];
            i = i ? i - 1 : m - 1;
        }
    }

    __device__ __forceinline__ void planes(i64 row, i64 chunk, u32 (&words)[XP_BITS]) const {
        const int kind = (int)(row % XP_N_OUT);
        u32 stored[XP_WINDOW];
        window(row, chunk, stored);
#pragma unroll
        for (int u = 0; u < XP_N_OUT; ++u) {
            if (u != kind) continue;
#pragma unroll
            for (int j = 0; j < XP_BITS; ++j) {
                u32 word = 0;
#pragma unroll
                for (int age = 0; age < XP_WINDOW; ++age)
                    if (xp_network[u][j] >> age & 1) word ^= stored[age];
                words[j] = word;
            }
        }
    }

    __device__ __forceinline__ float scale(i64 row, i64 col) const {
        i64 unused;
        return xp_load(scales, row * n_groups + xp_divide(col, group, by_group, unused), XP_SCALE);
    }

    // Weight of a column by bit `e` of its planes, before mask and outliers; `alphas` are a[j] * scale.
    __device__ __forceinline__ float weight(const u32 (&words)[XP_BITS], int e, const float (&alphas)[XP_BITS],
                                            i64 col) const {
        float total = 0.0f;
#pragma unroll
        for (int j = 0; j < XP_BITS; ++j)
            total = xp_add(total, __uint_as_float(__float_as_uint(alphas[j]) ^ (~words[j] >> e & 1) << 31));
        return gains ? xp_times(total, xp_from_half(gains[col])) : total;
    }

    __device__ __forceinline__ void alphas(float scale, float (&out)[XP_BITS]) const {
#pragma unroll
        for (int j = 0; j < XP_BITS; ++j) out[j] = xp_times(a[j], scale);
    }
};
