// Tensor cores, 16 rows by 16 columns by 8 activations: c += a b, float16 (XP_X == 1) or bfloat16, sums in float32.

#ifndef XP_X
#define XP_X 1
#endif

#ifndef XP_ON_HOST
__device__ __forceinline__ void xp_mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if XP_X == 1
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
#endif
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// Bits of activation `at` times gain `col` over `largest`, a power of two that no gain is above; of the activation where
// there are no gains, or it is +0.
__device__ __forceinline__ u32 xp_activation(const unsigned short* x, i64 at, const unsigned short* gains, i64 col, u64 largest) {
    const unsigned short bits = x[at];
    if (!gains || !bits) return bits;
    const float gain = xp_from_half(gains[col]) / __uint_as_float((u32)largest);
    return xp_rounded(xp_times(xp_load(&bits, 0, XP_X), gain), XP_X, XP_X);
}
