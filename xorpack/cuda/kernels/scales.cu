// Scales of groups, and corrections of what they multiply.

// Where the scales of a column lie.
struct Scales {
    const void* data;
    i64 group, groups_per_panel, panel, row;  // columns of a group; 0 groups a panel: groups count along the row
    u64 by_group;

    __device__ __forceinline__ i64 at(i64 p, i64 i, i64 col) const {
        i64 unused;
        i64 g = xp_divide(col, group, by_group, unused);
        return p * panel + i * row + (g - p * groups_per_panel) * XP_BITS;
    }
};

#define XP_SCALES \
    const void *scale_data, i64 group, i64 groups_per_panel, i64 scale_panel, i64 scale_row, u64 by_group
#define XP_SCALES_NAMES scale_data, group, groups_per_panel, scale_panel, scale_row, by_group

#define XP_SCALE_BYTES (XP_SCALE ? 2 : 4)
#define XP_RAW (XP_SCALE ? (XP_BITS + 1) / 2 : XP_BITS)

// Scales of a group, as they lie in memory, so that many wait in few registers.
struct Alphas {
    u32 raw[XP_RAW];

    __device__ __forceinline__ void load(const void* scales) {
#pragma unroll
        for (int j = 0; j < XP_RAW; ++j) {
            if (!XP_SCALE || XP_BITS % 2 == 0) raw[j] = ((const u32*)scales)[j];
            else {
                const unsigned short* halves = (const unsigned short*)scales + 2 * j;
                raw[j] = halves[0];
                if (2 * j + 1 < XP_BITS) raw[j] |= (u32)halves[1] << 16;
            }
        }
    }

    __device__ __forceinline__ float alpha(int j) const {
        if (!XP_SCALE) return __uint_as_float(raw[j]);
        return xp_from_half((unsigned short)(raw[j / 2] >> 16 * (j & 1)));
    }
};

// The list that item n belongs to: the last one that begins at n or before.
__device__ __forceinline__ i64 xp_list_of(const u32* starts, i64 n_lists, i64 n) {
    i64 low = 0, high = n_lists;
    while (high - low > 1) {
        const i64 middle = (low + high) / 2;
        if (starts[middle] <= n) low = middle;
        else high = middle;
    }
    return low;
}

__device__ __forceinline__ i64 xp_col_tiles(const Order& o) {
    return (o.cols + XP_TILE_COLS - 1) / XP_TILE_COLS;
}

// `sum` of row index i with the corrections of its tiles that are its own: a wrong bit counted with the wrong sign.
__device__ __forceinline__ float xp_corrected(const Order& o, const Scales& scales, const u32* starts,
                                              const unsigned short* entries, const Mend* values, i64 i, const void* x,
                                              int x_type, i64 x_at, float sum) {
    const i64 tiles = xp_col_tiles(o);
    const u32* start = starts + (i >> 5) * tiles;
    u32 n = start[0];
    for (i64 tile = 0; tile < tiles; ++tile) {
        const u32 last = start[tile + 1];
        for (; n < last; ++n) {
            const u32 entry = entries[n];
            if ((entry & 31) != (u32)(i & 31)) continue;
            const i64 col = tile * XP_TILE_COLS + (entry >> 5);
            const i64 at = scales.at(col / (32 * o.panel_chunks), i, col);
            float delta = 0.0f;
#pragma unroll
            for (int j = 0; j < XP_BITS; ++j) {
                const float twice = 2.0f * xp_load(scales.data, at + j, XP_SCALE);
                if (values[n] >> j & 1) delta += values[n] >> (XP_VALUE_BITS + j) & 1 ? twice : -twice;
            }
            sum = fmaf(delta, xp_load(x, x_at + col, x_type), sum);
        }
    }
    return sum;
}
