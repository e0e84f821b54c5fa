// What products by binary tensor cores have in common. In front of them.
//
// Activations (times gains) of a panel are whole numbers of 24 bits of the panel's unit, in four digits d = -32 .. 31 of
// base 64, the lowest first: rounded to nearest they differ by half a unit, 2^-24 of the panel's largest, and sums of them
// are exact whatever their order. A decoded word is an operand as it is: mma.m16n8k256 with AND and population count has
//
//      A 16 x 256   rows g and g + 8, words t and t + 4 in lane (g, t) = (lane / 4, lane % 4)
//      B 256 x 8    columns n: bits of digits. Product i = 0 .. 2 has bits 2 i and 2 i + 1 of digit t in columns
//                   2 t and 2 t + 1, so that lane (g, t) gets all bits of digit t of its rows
//      C 16 x 8     c0 c1: row g, columns 2 t, 2 t + 1; c2 c3: row g + 8
//
// Which word of a row is `word t` is free, as long as A and B agree. mma.m16n8k128 has the first half: words t.

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

// A lane's digit of rows g and g + 8, from the counts of its bits.
__device__ __forceinline__ void xp_digit(const int (&c)[3][4], int (&sums)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int e = 2 * half;
        int sum = c[2][e] - 2 * c[2][e + 1];
        sum = 2 * sum + c[1][e + 1];
        sum = 2 * sum + c[1][e];
        sum = 2 * sum + c[0][e + 1];
        sums[half] = 2 * sum + c[0][e];
    }
}

