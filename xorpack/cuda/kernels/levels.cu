// In front of the kernels that look levels of a trellis up by the bits of their planes. Behind trellis.cu.
//
// A weight without its scale is one of 2^XP_BITS levels. Levels are divided by a power of two that leaves them below 2,
// then rounded to the type of the activations, XP_X: float16 has no subnormals of them.

// Swaps bits of words i and i + S, for each bit S of i that is 0.
template <int S> __device__ __forceinline__ void xp_swap(u32 (&words)[8], u32 places) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        if (i & S) continue;
        const u32 differ = (words[i] >> S ^ words[i + S]) & places;
        words[i + S] ^= differ;
        words[i] ^= differ << S;
    }
}

// Word k gets byte b = bit 8 b + k of all eight words, the first of them the lowest.
__device__ __forceinline__ void xp_transpose(u32 (&words)[8]) {
    xp_swap<4>(words, 0x0F0F0F0Fu);
    xp_swap<2>(words, 0x33333333u);
    xp_swap<1>(words, 0x55555555u);
}

// The exponent of a power of two that all levels are below twice of.
__device__ __forceinline__ u32 xp_level_exponent(const float* a) {
    float most = 0.0f;
#pragma unroll
    for (int j = 0; j < XP_BITS; ++j) most = most + fabsf(a[j]);
    return min(max(__float_as_uint(most) >> 23 & 0xFF, 1u), 253u);
}

// What products of levels are multiplied by, gains being divided by `largest`.
__device__ __forceinline__ float xp_level_factor(u32 exponent, u64 largest) {
    return xp_times(__uint_as_float(exponent << 23), __uint_as_float((u32)largest));
}

// Level of planes' bits `planes`, rounded.
__device__ __forceinline__ u32 xp_level(const float* a, u32 planes, u32 exponent) {
    float level = 0.0f;
#pragma unroll
    for (int j = 0; j < XP_BITS; ++j) level = xp_add(level, planes >> j & 1 ? a[j] : -a[j]);
    return xp_rounded(xp_times(level, __uint_as_float((254 - exponent) << 23)), XP_X, XP_X);
}
