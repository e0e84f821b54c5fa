// The mask codec `block`: prefix-coded blocks of mask bits (FORMAT.md, 8.2). In this order:
//
//   block_tables   places and levels, from the classes of rows and columns
//   decode_words   the plane of the deep codeword bits, of its own order; then flip
//   block_join     codewords to blocks
//   block_move     columns back to their places, where they were sorted by class
//   flip           corrections of the mask
//
// The fields of a class have 0 to 4 bits: class of item n is bits n * width .. of the words of `classes`. starts[g *
// n_classes + c] is the place of the first item of class c from item 256 g on, where items are sorted by class. Levels
// of classes are signed bytes, that of class c the c-th of two 64-bit arguments.

struct Classes {
    const u32 *words, *starts;
    i64 n, width;         // items; bits of a field
    u64 low, high;        // levels
    i64 n_classes;

    __device__ __forceinline__ int of(i64 item) const {
        const i64 at = item * width;
        u64 pair = words[at >> 5];
        if ((at & 31) + width > 32) pair |= (u64)words[(at >> 5) + 1] << 32;
        return (int)(pair >> (at & 31)) & ((1 << width) - 1);
    }

    __device__ __forceinline__ int level(int c) const {
        return (signed char)((c < 8 ? low : high) >> 8 * (c & 7));
    }

    // A warp finds the places of items 256 g .. 256 g + 255; lane c counts class c.
    template <class Store> __device__ __forceinline__ void places(i64 g, Store store) const {
        const int lane = threadIdx.x & 31;
        u32 next = lane < n_classes ? starts[g * n_classes + lane] : 0;
        for (i64 first = 256 * g; first < min(n, 256 * (g + 1)); first += 32) {
            const i64 item = first + lane;
            const int mine = item < n ? of(item) : -1;
            u32 place = 0, more = 0;
            for (int c = 0; c < n_classes; ++c) {
                const u32 same = __ballot_sync(0xFFFFFFFF, mine == c);
                const u32 begin = __shfl_sync(0xFFFFFFFF, next, c);
                if (mine == c) place = begin + __popc(same & ((1u << lane) - 1));
                if (lane == c) more = __popc(same);
            }
            next += more;
            if (item < n) store(item, place, mine);
        }
    }
};

#define XP_CLASSES(name)                                                                                       \
    const u32 *__restrict__ name##_words, const u32 *__restrict__ name##_starts, i64 name##_n, i64 name##_width, \
        u64 name##_low, u64 name##_high, i64 name##_classes
#define XP_CLASSES_NAMES(name) \
    name##_words, name##_starts, name##_n, name##_width, name##_low, name##_high, name##_classes

// Out:    row_table[2 r], [2 r + 1]: place of row r in the plane, its level; block_levels[b]; where by_column,
//         col_places[c]: place of column c in its row.
// Launch: any grid, blocks of whole warps, no shared memory. A warp has 256 rows, columns or blocks.
// Oracle: xorpack.masks.block.places_of, BlockCode.col_order.
extern "C" __global__ void __launch_bounds__(256, 1)
block_tables(XP_CLASSES(row), XP_CLASSES(col), i64 by_column, i64 block, i64 n_blocks, u32* __restrict__ row_table,
             int* __restrict__ block_levels, u32* __restrict__ col_places) {
    const Classes rows = {XP_CLASSES_NAMES(row)}, cols = {XP_CLASSES_NAMES(col)};
    const i64 row_groups = (rows.n + 255) / 256, col_groups = by_column ? (cols.n + 255) / 256 : 0;
    const i64 items = row_groups + col_groups + (n_blocks + 255) / 256;
    const i64 n_warps = (i64)gridDim.x * (blockDim.x >> 5);
    for (i64 item = blockIdx.x * (i64)(blockDim.x >> 5) + (threadIdx.x >> 5); item < items; item += n_warps) {
        if (item < row_groups) {
            rows.places(item, [&](i64 r, u32 place, int c) {
                row_table[2 * r] = place;
                row_table[2 * r + 1] = (u32)rows.level(c);
            });
        } else if (item < row_groups + col_groups) {
            cols.places(item - row_groups, [&](i64 c, u32 place, int) { col_places[c] = place; });
        } else {
            const i64 first = 256 * (item - row_groups - col_groups);
            for (i64 b = first + (threadIdx.x & 31); b < min(n_blocks, first + 256); b += 32) {
                int c = 0;
                if (by_column) {  // the class of the place in the block's middle: starts of group 0 rise
                    const i64 middle = min(b * block + block / 2, cols.n - 1);
                    while (c + 1 < cols.n_classes && cols.starts[c + 1] <= middle) ++c;
                } else {
                    c = cols.of(b);
                }
                block_levels[b] = cols.level(c);
            }
        }
    }
}

// In:     tables as above; plane[(place * n_parts + part) * plane_chunks + group * n_depths + k], bit j: depth
//         k * stride % n_depths of block b = n_words * j + part * n_groups + group, n_words = n_parts * n_groups;
//         raw, bit (r * n_raw + d) * n_blocks + b: depth d of codewords of row r. Codes of levels 0 to 64, one after
//         another (xp_symbol); symbols.
// Out:    ORed into words that were 0: mask in order of visits, or, where `joined` is not null, joined[i * chunks +
//         word], words of row index i with columns in order of places.
// Launch: any grid, blocks of whole warps, no shared memory. A warp has a row index. Lane j has blocks n_words * j ..:
//         all lanes read the same words of the plane, and a lane's blocks lie end to end, so that only the first and
//         last word of its share is ORed; others are stored.
// Cost:   some 100 instructions for 32 blocks: their codewords lie across the lanes and are transposed.
// Oracle: xorpack.masks.joining.join.
extern "C" __global__ void __launch_bounds__(256, 1)
block_join(XP_ORDER, const u32* __restrict__ plane, const u32* __restrict__ raw, const u32* __restrict__ row_table,
           const int* __restrict__ block_levels, const u32* __restrict__ runs, const u32* __restrict__ symbols,
           i64 n_runs, i64 block, i64 max_length, i64 n_raw, i64 n_depths, i64 stride, i64 n_parts, i64 n_groups,
           i64 n_blocks, u32* __restrict__ joined, u32* __restrict__ mask) {
    const Order o = {XP_ORDER_NAMES};
    const int lane = threadIdx.x & 31;
    const i64 n_words = n_parts * n_groups, n_warps = (i64)gridDim.x * (blockDim.x >> 5);
    const u32 full = block == 32 ? 0xFFFFFFFF : (1u << block) - 1;
    const int free_bits = (int)(max_length - n_raw - n_depths);
    const int from = xp_place(n_depths, stride);
    for (i64 i = blockIdx.x * (i64)(blockDim.x >> 5) + (threadIdx.x >> 5); i < o.rows; i += n_warps) {
        const i64 row = xp_row(o, i);
        const u32* words = plane + row_table[2 * row] * n_words * n_depths;  // plane_chunks = n_groups * n_depths
        const int row_level = (int)row_table[2 * row + 1];
        const u32* heads = raw + (row * n_raw * n_blocks >> 5);
        const u32 heads_at = (u32)(row * n_raw * n_blocks & 31);
        i64 b = n_words * lane, at = b * block >> 5;  // of the mask's words of this row
        int filled = (int)(b * block & 31);
        u64 pending = 0;
        bool shared = filled != 0;  // the word under work has bits of the lane before

        auto put = [&](u32 word, bool alone) {
            if (at < o.chunks) {
                const i64 columns = o.cols - 32 * at;
                if (columns < 32) word &= (1u << columns) - 1;
                const i64 p = at / o.panel_chunks;
                u32* to = joined ? joined + (i * o.chunks + at)
                                 : mask + xp_mask_at(o, p, i, (int)(at - p * o.panel_chunks));
                if (alone) *to = word;
                else if (word) atomicOr(to, word);
            }
            ++at;
        };

        u32 mine = lane < n_depths ? words[from] : 0;
        for (i64 w = 0; w < n_words; ++w, ++b) {
            const u32 tail = xp_transpose(mine);
            words += n_depths;
            if (w + 1 < n_words && lane < n_depths) mine = words[from];
            if (b >= n_blocks) continue;
            u32 head = 0;
            for (int d = 0; d < n_raw; ++d) {
                const i64 bit = heads_at + d * n_blocks + b;
                head = head << 1 | (heads[bit >> 5] >> (bit & 31) & 1);
            }
            const u32 value = (head << n_depths | tail) << free_bits;
            const int level = row_level + block_levels[b];
            u32 symbol = xp_symbol(runs + min(level < 0 ? -level : level, 64) * 2 * n_runs, n_runs, symbols, value);
            if (level < 0) symbol ^= full;
            pending |= (u64)symbol << filled;
            filled += (int)block;
            if (filled >= 32) {
                put((u32)pending, !shared);
                shared = false;
                pending >>= 32;
                filled -= 32;
            }
        }
        if (filled) put((u32)pending, false);
    }
}

// In:     joined, col_places, as above. Out: mask in order of visits, every word.
// Launch: any grid, blocks of whole warps, no shared memory. A warp has a visit: lane l looks up column l of a word,
//         a ballot makes the word. Oracle: xorpack.masks.joining.move_columns.
extern "C" __global__ void __launch_bounds__(256, 1)
block_move(XP_ORDER, const u32* __restrict__ joined, const u32* __restrict__ col_places, u32* __restrict__ mask) {
    const Order o = {XP_ORDER_NAMES};
    const int lane = threadIdx.x & 31;
    const i64 visits = o.n_panels * o.rows, n_warps = (i64)gridDim.x * (blockDim.x >> 5);
    for (i64 v = blockIdx.x * (i64)(blockDim.x >> 5) + (threadIdx.x >> 5); v < visits; v += n_warps) {
        i64 i;
        const i64 p = xp_divide(v, o.rows, o.by_rows, i);
        const u32* from = joined + i * o.chunks;
        u32 mine = 0;
        for (int k = 0; k < o.panel_chunks; ++k) {
            const i64 col = 32 * (p * o.panel_chunks + k) + lane;
            u32 bit = 0;
            if (col < o.cols) {
                const u32 place = col_places[col];
                bit = from[place >> 5] >> (place & 31) & 1;
            }
            const u32 word = __ballot_sync(0xFFFFFFFF, bit);
            if (lane == k) mine = word;
        }
        if (lane < o.panel_chunks) mask[xp_mask_at(o, p, i, lane)] = mine;
    }
}
