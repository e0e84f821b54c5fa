// Elements: float32, float16 and bfloat16 in memory, their sums rounded as numpy rounds them.

#ifndef XP_ON_HOST
// Kernels may be compiled with -ftz=true; elements keep their subnormals.
__device__ __forceinline__ float xp_add(float a, float b) {
    float sum;
    asm("add.rn.f32 %0, %1, %2;" : "=f"(sum) : "f"(a), "f"(b));
    return sum;
}

__device__ __forceinline__ float xp_times(float a, float b) {
    float product;
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(product) : "f"(a), "f"(b));
    return product;
}

__device__ __forceinline__ float xp_from_half(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

__device__ __forceinline__ unsigned short xp_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// Memory of a block whose size the launch gives.
__device__ __forceinline__ u32* xp_shared() {
    extern __shared__ __align__(16) u32 xp_dynamic[];
    return xp_dynamic;
}
#endif

__device__ __forceinline__ float xp_from_bfloat(unsigned short bits) {
    return __uint_as_float((u32)bits << 16);
}

__device__ __forceinline__ unsigned short xp_to_bfloat(float value) {
    const u32 bits = __float_as_uint(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (unsigned short)(bits >> 16 | 0x40);
    return (unsigned short)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Element types of activations, outputs and scales: 0 float32, 1 float16, 2 bfloat16.
__device__ __forceinline__ float xp_load(const void* data, i64 at, int type) {
    if (type == 0) return ((const float*)data)[at];
    const unsigned short bits = ((const unsigned short*)data)[at];
    return type == 1 ? xp_from_half(bits) : xp_from_bfloat(bits);
}

__device__ __forceinline__ void xp_store(void* data, i64 at, int type, float value) {
    if (type == 0) ((float*)data)[at] = value;
    else ((unsigned short*)data)[at] = type == 1 ? xp_to_half(value) : xp_to_bfloat(value);
}

// Bits of a float32 sum rounded to the type `own`, then to the type `element`.
__device__ __forceinline__ u32 xp_rounded(float value, int own, int element) {
    if (own == 1 && element != 1) value = xp_from_half(xp_to_half(value));
    if (own == 2 && element != 2) value = xp_from_bfloat(xp_to_bfloat(value));
    if (element == 0) return __float_as_uint(value);
    return element == 1 ? xp_to_half(value) : xp_to_bfloat(value);
}

// The first n of 8 elements, in 16-byte pieces where that can be.
template <class Element> __device__ __forceinline__ void xp_store_8(Element* to, const Element (&elements)[8], i64 n) {
    constexpr int bytes = (int)sizeof(Element);
    if (n >= 8 && (u64)to % (bytes < 2 ? 8 : 16) == 0) {
        u32 packed[2 * bytes];
#pragma unroll
        for (int w = 0; w < 2 * bytes; ++w) packed[w] = 0;
#pragma unroll
        for (int e = 0; e < 8; ++e) packed[e * bytes / 4] |= (u32)elements[e] << (e * bytes % 4 * 8);
        if constexpr (bytes == 1) {
            *(uint2*)to = make_uint2(packed[0], packed[1]);
        } else {
#pragma unroll
            for (int w = 0; w < 2 * bytes; w += 4)
                ((uint4*)to)[w / 4] = make_uint4(packed[w], packed[w + 1], packed[w + 2], packed[w + 3]);
        }
    } else {
#pragma unroll
        for (int e = 0; e < 8; ++e)
            if (e < n) to[e] = elements[e];
    }
}
