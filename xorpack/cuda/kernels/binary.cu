// What products by binary tensor cores have in common. In front of them.
//
//   XP_PRODUCTS   sums that a lane has of a row and column of activations, in pairs: 1 to 3
//   XP_COPIES     units that a sum counts with every weight, at the most: 1, 2 or 4
//
// Activations (times gains) of a panel are whole numbers of the panel's unit, in four digits of base
// XP_BASE = (XP_COPIES + 1)^(2 XP_PRODUCTS), the lowest first, and a digit has 2 * XP_PRODUCTS figures of base
// XP_COPIES + 1, the highest of which counts as negative. Rounded to nearest, activations differ by half a unit; sums of
// them are exact whatever their order.
//
//      XP_PRODUCTS  XP_COPIES  digits    largest number of units (the unit is a power of two)
//      3            1          -32 .. 31  8255455
//      2            2          -54 .. 26  13990184: fewer sums, more products
//      2            1          -8 .. 7    30583
//      1            4          -20 .. 4   65104
//
// A decoded word is an operand as it is: mma.m16n8k256 with AND and population count has
//
//      A 16 x 256   rows g and g + 8, words t and t + 4 in lane (g, t) = (lane / 4, lane % 4)
//      B 256 x 8    columns n. Product i has figures 2 i and 2 i + 1 of digit t in columns 2 t and 2 t + 1, so that lane
//                   (g, t) gets all figures of digit t of its rows. A figure is as many ones, in XP_COPIES bits of a weight
//      C 16 x 8     c0 c1: row g, columns 2 t, 2 t + 1; c2 c3: row g + 8
//
// Which word of a row is `word t` is free, as long as A and B agree. mma.m16n8k128 has the first half: words t.

#ifndef XP_PRODUCTS
#define XP_PRODUCTS 3
#endif
#ifndef XP_COPIES
#define XP_COPIES 1
#endif

__device__ constexpr int xp_power(int base, int exponent) { return exponent ? base * xp_power(base, exponent - 1) : 1; }

#define XP_BASE xp_power(XP_COPIES + 1, 2 * XP_PRODUCTS)

#ifndef XP_ON_HOST
__device__ __forceinline__ void xp_count(int (&c)[4], const u32 (&a)[4], uint2 b) {
    asm("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}

__device__ __forceinline__ void xp_count_half(int (&c)[4], u32 a0, u32 a1, u32 b) {
    asm("mma.sync.aligned.m16n8k128.row.col.s32.b1.b1.s32.and.popc {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(b));
}
#endif

// A lane's digit of rows g and g + 8, from the sums of its figures.
__device__ __forceinline__ void xp_digit(const int (&c)[XP_PRODUCTS][4], int (&sums)[2]) {
    constexpr int base = XP_COPIES + 1, top = XP_PRODUCTS - 1;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int e = 2 * half;
        int sum = c[top][e] - base * c[top][e + 1];
#pragma unroll
        for (int i = top - 1; i >= 0; --i) sum = base * (base * sum + c[i][e + 1]) + c[i][e];
        sums[half] = sum;
    }
}

// What digit t counts, in units.
__device__ __forceinline__ float xp_worth(int t) {
    if (XP_COPIES == 1) return (float)(1 << 2 * XP_PRODUCTS * t);
    return (float)((t & 1 ? XP_BASE : 1) * (t & 2 ? XP_BASE * XP_BASE : 1));
}
