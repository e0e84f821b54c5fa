// trellis_product, then trellis_finish: the fused product of a trellis tensor without a mask, by binary tensor cores.
// Behind binary.cu and trellis.cu; digits goes before it.
//
//   XP_CHUNKS    chunks of a lane: 2 or 4; a panel is 4 * XP_CHUNKS chunks of 32 columns
//   XP_VECTOR    1: rows of code are whole groups of XP_CHUNKS words, 8 or 16 bytes a load; 0: words one by one
//   XP_BODY      rows that the loop is unrolled for: a multiple of 2 and of XP_N_OUT
//   XP_WARPS     warps of a block, a panel each
//   XP_BLOCKS    blocks that a multiprocessor has registers for
//   XP_COLUMNS   columns of activations at a time, 1 to 8
//
//   y[r] = sum over panels p, by scale[r, p] * unit[p] * sum_j a_j * (2 <plane_j, X> - <1, X>)
//
// X are the digits of binary.cu, of panels of 4 * XP_CHUNKS chunks; lane t has XP_CHUNKS that lie side by side.
//
// The order of rows and columns in an operand is free: lane (g, t) walks down rows of its own, two at a time, and has chunks
// XP_CHUNKS * t .. of the panel, so that its window stays in registers and stored words are loaded once.
//
// Numbers whose sums are taken are small: of a digit, at most 32 * 512. They become float32 exactly; sums over planes, digits,
// panels and outliers are float32 in a fixed order: the same input gives the same bits, whatever the launch.
// Where an activation of a panel is infinite or NaN, products of all rows are NaN.
//
// Bytes:   code once from memory (and XP_WINDOW words a lane at the start of its rows), 4 bytes a row and panel of
//          partial sums written and read again, x twice.
// Instructions for 1024 weights: 31 at R 2 (q 6), 26 at R 1 (q 4) on sm_90, counted in the machine code by
//          tests/sass.py; 4.5 and 3 of them are products, a third are XORs. What sums are worth lies in shared memory, and so do
//          digits of several columns: from there loads stay in their pair of rows; moved ahead by the compiler, they take
//          registers that are not there.
// Oracle:  reference.decode_planes and a product in float64.

#ifndef XP_CHUNKS
#define XP_CHUNKS 4
#endif
#ifndef XP_VECTOR
#define XP_VECTOR 1
#endif
#ifndef XP_BODY
#define XP_BODY (8 * XP_N_OUT)
#endif
#ifndef XP_WARPS
#define XP_WARPS 4
#endif
#ifndef XP_BLOCKS
#define XP_BLOCKS 1
#endif
#ifndef XP_COLUMNS
#define XP_COLUMNS 1
#endif
#define XP_PANEL (4 * XP_CHUNKS)
#define XP_PARTS (XP_CHUNKS / 2)
#define XP_FRAGMENTS (XP_PARTS * XP_PRODUCTS)
#define XP_HELD (XP_COLUMNS > 1 ? XP_FRAGMENTS + 1 : 1)  // places of a lane and column in shared memory: digits of several; the last is a Worth
#define XP_NEW (XP_BODY * XP_N_IN / XP_N_OUT)
#define XP_END(u) (((u) + 1) * XP_N_IN / XP_N_OUT + (((u) + 1) * XP_N_IN % XP_N_OUT != 0))

// Of a digit's sums over planes: what they begin with, and what they are multiplied by.
struct Worth {
    float minus, weight;
};

// A lane's digit, summed over the columns of the panel where its two rows have ones.
__device__ __forceinline__ void xp_sums(const u32 (&ones)[XP_PARTS][4], const uint2* b, int stride, int (&sums)[2]) {
    int c[XP_PRODUCTS][4];
#pragma unroll
    for (int i = 0; i < XP_PRODUCTS; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) c[i][e] = 0;
#pragma unroll
        for (int part = 0; part < XP_PARTS; ++part) xp_count(c[i], ones[part], b[(part * XP_PRODUCTS + i) * stride]);
    }
    xp_digit(c, sums);
}

template <int U> struct Pair {
    static constexpr int row = U;
};

// body(Pair<0>), body(Pair<2>) .. for the rows of a body: a loop of that many rows is not unrolled by every compiler.
template <int U, class Body> __device__ __forceinline__ void xp_pairs(Body body) {
    if constexpr (U < XP_BODY) {
        body(Pair<U>());
        xp_pairs<U + 2>(body);
    }
}

// Out:    partial[(column * n_panels + p) * rows + r], float32, without the scale of row r in panel p.
//         Of 2 a_j, which are constants of the launch, a2n is the pair j = 2n (low half), 2n + 1.
// Launch: grid (ceil(rows / (8 * stripe)), ceil(n_panels / XP_WARPS), ceil(n_columns / XP_COLUMNS)), XP_WARPS * 32 threads, XP_WARPS * XP_COLUMNS * XP_HELD * 256 bytes
//         of shared memory; stripe, a multiple of XP_BODY, is the rows of a lane.
extern "C" __global__ void __launch_bounds__(XP_WARPS * 32, XP_BLOCKS)
trellis_product(i64 rows, i64 chunks, const u32* __restrict__ code, i64 m, u64 a0, u64 a2, u64 a4, u64 a6, u64 a8, u64 a10,
                u64 a12, u64 a14, i64 stripe, i64 n_panels, i64 n_columns, const uint2* __restrict__ fragments,
                const float* __restrict__ units, float* __restrict__ partial) {
    const int lane = threadIdx.x & 31, t = lane & 3;
    const i64 p = blockIdx.y * (i64)XP_WARPS + (threadIdx.x >> 5);
    if (p >= n_panels) return;
    const i64 row = (blockIdx.x * 8ll + (lane >> 2)) * stripe;
    const i64 first = (blockIdx.z * n_panels + p) * XP_COLUMNS;  // those of columns behind n are not stored
    fragments += first * XP_FRAGMENTS * 32 + lane;

    uint2 kept[XP_FRAGMENTS];  // of one column
    uint2* held = (uint2*)xp_shared() + (threadIdx.x >> 5) * (XP_COLUMNS * XP_HELD * 32) + lane;
    auto worth = [&](int column) -> Worth& { return *(Worth*)(held + (column * XP_HELD + XP_HELD - 1) * 32); };
    const u64 pairs[8] = {a0, a2, a4, a6, a8, a10, a12, a14};
    float twice[XP_BITS], all = 0.0f;
#pragma unroll
    for (int j = 0; j < XP_BITS; ++j) {
        twice[j] = __uint_as_float((u32)(pairs[j / 2] >> 32 * (j & 1)));
        all += 0.5f * twice[j];
    }
#pragma unroll
    for (int column = 0; column < XP_COLUMNS; ++column) {
#pragma unroll
        for (int f = 0; f < XP_FRAGMENTS; ++f) {
            kept[f] = fragments[(column * XP_FRAGMENTS + f) * 32];
            if (XP_COLUMNS > 1) held[(column * XP_HELD + f) * 32] = kept[f];
        }
        u32 ones[XP_PARTS][4];
#pragma unroll
        for (int part = 0; part < XP_PARTS; ++part)
#pragma unroll
            for (int e = 0; e < 4; ++e) ones[part][e] = 0xFFFFFFFF;
        int sums[2];
        xp_sums(ones, kept, 1, sums);
        worth(column) = {-all * (float)sums[0], units[4 * (first + column) + t]};
    }
    __syncwarp();

    // Words of code: those before the first row, then those of the rows of a body, then those of the next pair of rows.
    u32 words[XP_CHUNKS][XP_WINDOW - 1 + XP_NEW + XP_END(1)];
    u32 at[XP_VECTOR ? 1 : XP_CHUNKS], last[XP_VECTOR ? 1 : XP_CHUNKS];
    const i64 begin = row < rows ? row / XP_N_OUT * XP_N_IN : 0;  // m or less: rows behind the last are not stored
    const i64 chunk = p * XP_PANEL + t * XP_CHUNKS;
#pragma unroll
    for (int c = 0; c < (XP_VECTOR ? 1 : XP_CHUNKS); ++c) {
        // Chunks that do not exist read some that do: their activations are 0.
        const i64 from = chunk + c < chunks ? chunk + c : 0;
        at[c] = (u32)(begin * chunks + from);
        last[c] = (u32)((m - 1) * chunks + from);
    }
    auto load = [&](int n, const u32 (&from)[XP_VECTOR ? 1 : XP_CHUNKS]) {
#if XP_VECTOR && XP_CHUNKS == 4
        const uint4 found = *(const uint4*)(code + from[0]);
        words[0][n] = found.x, words[1][n] = found.y, words[2][n] = found.z, words[3][n] = found.w;
#elif XP_VECTOR
        const uint2 found = *(const uint2*)(code + from[0]);
        words[0][n] = found.x, words[1][n] = found.y;
#else
#pragma unroll
        for (int c = 0; c < XP_CHUNKS; ++c) words[c][n] = code[from[c]];
#endif
    };
    auto forward = [&](int n) {
        load(n, at);
#pragma unroll
        for (int c = 0; c < (XP_VECTOR ? 1 : XP_CHUNKS); ++c) at[c] = min(at[c] + (u32)chunks, last[c]);
    };
    i64 before = begin;
#pragma unroll
    for (int age = 0; age < XP_WINDOW - 1; ++age) {
        u32 from[XP_VECTOR ? 1 : XP_CHUNKS];
        before = before ? before - 1 : m - 1;
#pragma unroll
        for (int c = 0; c < (XP_VECTOR ? 1 : XP_CHUNKS); ++c) from[c] = last[c] - (u32)((m - 1 - before) * chunks);
        load(XP_WINDOW - 2 - age, from);
    }
#pragma unroll
    for (int n = 0; n < XP_END(1); ++n) forward(XP_WINDOW - 1 + n);

    // Where the sums of this lane's next rows go, and rows that are left of its own.
    float* to = partial + (blockIdx.z * XP_COLUMNS * n_panels + p) * rows + row + t;
    const int columns = (int)min(n_columns - blockIdx.z * XP_COLUMNS, (i64)XP_COLUMNS);
    int left = t < 2 ? (int)max(0ll, min(rows - row, stripe)) - t : 0;
    for (int i = 0; i < (int)stripe; i += XP_BODY, to += XP_BODY, left -= XP_BODY) {
        xp_pairs<0>([&](auto pair) {
            constexpr int u = pair.row;
#pragma unroll
            for (int n = XP_END(u + 1); n < XP_END(u + 3); ++n) forward(XP_WINDOW - 1 + n);
            float y[XP_COLUMNS][2];
#pragma unroll
            for (int column = 0; column < XP_COLUMNS; ++column) y[column][0] = y[column][1] = worth(column).minus;
#pragma unroll
            for (int j = 0; j < XP_BITS; ++j) {
                u32 ones[XP_PARTS][4];
#pragma unroll
                for (int e = 0; e < 4 * XP_PARTS; ++e) {
                    const int half = e & 1, c = e >> 1, r = u + half;
                    u32 word = 0;
#pragma unroll
                    for (int age = 0; age < XP_WINDOW; ++age)
                        if (xp_network[r % XP_N_OUT][j] >> age & 1) word ^= words[c][XP_WINDOW - 2 + XP_END(r) - age];
                    ones[c >> 1][(c & 1) * 2 + half] = word;
                }
#pragma unroll
                for (int column = 0; column < XP_COLUMNS; ++column) {
                    int sums[2];
                    if (XP_COLUMNS == 1) xp_sums(ones, kept, 1, sums);
                    else xp_sums(ones, held + column * XP_HELD * 32, 32, sums);
                    y[column][0] = fmaf(twice[j], (float)sums[0], y[column][0]);
                    y[column][1] = fmaf(twice[j], (float)sums[1], y[column][1]);
                }
            }
            // Digits are summed over the four lanes of a row; lane t = 0 ends with the first row, 1 with the second.
#pragma unroll
            for (int column = 0; column < XP_COLUMNS; ++column) {
                const float give = t & 1 ? y[column][0] : y[column][1], keep = t & 1 ? y[column][1] : y[column][0];
                const float weight = worth(column).weight;
                float sum = weight * keep;
                sum += __shfl_xor_sync(0xFFFFFFFF, give * weight, 1);
                sum += __shfl_xor_sync(0xFFFFFFFF, sum, 2);
                if (u < left && (XP_COLUMNS == 1 || column < columns)) to[column * n_panels * rows + u] = sum;
            }
            __syncwarp();  // a pair at a time, see above
        });
#pragma unroll
        for (int n = 0; n < XP_WINDOW - 1 + XP_END(1); ++n)
#pragma unroll
            for (int c = 0; c < XP_CHUNKS; ++c) words[c][n] = words[c][XP_NEW + n];
    }
}
