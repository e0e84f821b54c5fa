// The text in front of every kernel: types, the order of coding (sources.FRONT names the other files).
//
// Specialised by macros, whose defaults make each kernel compile behind this text alone:
//   XP_PLANES     coded planes (0 and up)
//   XP_UNROLLED   1: the taps are constants and a warp keeps the window in registers; needs 32 lanes, one turn
//                 per row (n_sub = 1), m_lane <= n_steps, turned, quasi-cyclic or raw. 0: taps come from a table in
//                 memory, any network and layout.
//   XP_WINDOW, XP_DISTINCT, XP_TAPS, XP_OFFSETS, XP_ROTATIONS   the network, where XP_UNROLLED: of XP_DISTINCT rows
//   XP_TURNED     0: a rotation of each tap; else the network is turned, XP_DISTINCT is 16, and step s turns three words by
//                 XP_ROTATIONS[s / 16 % XP_TURNED]
//   XP_HOLD       steps for which the window stays: it moves where s % XP_HOLD is 0; divides 16
//   XP_AHEAD      stored words behind the window that a lane has loaded before they are needed
//   XP_BITS, XP_ZEROS, XP_ONES   all planes, and the sets of those that are constant where kept
//   XP_SCALE      type of the scales: 0 float32, 1 float16
//   XP_SKEW       1: 32 lanes, one turn and 32 chunks a panel
//   XP_OWN        where weights are decoded: the tensor's type, that sums are rounded to first, as XP_ELEMENT
//   XP_ELEMENT    type of what is decoded, rounded to after that: 0 float32, 1 float16, 2 bfloat16
//   XP_MASK       1: the mask is an array of words; 0: every weight is kept
//
// Order of coding (FORMAT.md, section 5). A *visit* v = p * rows + i is one row of one panel: panel p, row index
// i, row r = i * row_stride % rows. Its words have k = 0 .. panel_chunks - 1, chunk = p * panel_chunks + k. What a
// loader may reorder (mask, scales, partial sums) lies in order of visits, so that a warp reads it end to end:
//   mask[v * panel_chunks + k], 0 where the chunk does not exist; where XP_SKEW, mask[v * 32 + lane] with
//   k = (lane + i) % 32, so that a lane that walks down rows steps by 32 words.
// Words of planes lie side by side: code[((segment * m_lane + x) * XP_PLANES + plane) * lanes + lane].
// Taps in memory: XP_TAPS + 1 words a row: their number, then offset << 5 | rotation each.
//
// Scales in order of visits too: plane j of group g (of those of a panel, or of the row) is
//   scales[p * scale_panel + i * scale_row + g * XP_BITS + j]
// Corrections lie in tiles of 32 row indices x 2048 columns: tile w = i / 32 * col_tiles + col / 2048 is
// entries[starts[w]] .. entries[starts[w + 1] - 1], an entry is (col % 2048) << 5 | i % 32, rising in a tile. Their
// values: of lossless tensors the right elements; else the XOR and, XP_VALUE_BITS higher, the right bits.
//
// All counts are 64 bits wide. Oracle: xorpack/decoders/reference.py.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifndef XP_PLANES
#define XP_PLANES 2
#endif
#ifndef XP_UNROLLED
#define XP_UNROLLED 0
#endif
#ifndef XP_TAPS
#define XP_TAPS 6
#endif
#ifndef XP_HOLD
#define XP_HOLD 1
#endif
#ifndef XP_TURNED
#define XP_TURNED 0
#endif
#ifndef XP_AHEAD
#define XP_AHEAD 1
#endif
#ifndef XP_BITS
#define XP_BITS XP_PLANES
#endif
#ifndef XP_ZEROS
#define XP_ZEROS 0
#endif
#ifndef XP_ONES
#define XP_ONES 0
#endif
#ifndef XP_SCALE
#define XP_SCALE 1
#endif
#ifndef XP_SKEW
#define XP_SKEW 0
#endif
#ifndef XP_MASK
#define XP_MASK 1
#endif
#ifndef XP_OWN
#define XP_OWN 1
#endif
#ifndef XP_ELEMENT
#define XP_ELEMENT 1
#endif
#define XP_VALUE_BITS (XP_BITS <= 4 ? 4 : 8)
#if XP_BITS <= 4
typedef unsigned char Mend;
#else
typedef unsigned short Mend;
#endif
#define XP_TILE_COLS 2048
#define XP_ARRAY (XP_PLANES ? XP_PLANES : 1)
#define XP_TILE_ROWS 16
#define XP_TILE_STRIDE 36
#define XP_TILE_WORDS (XP_ARRAY * XP_TILE_ROWS * XP_TILE_STRIDE)

#define XP_ORDER                                                                                          \
    i64 rows, i64 cols, i64 chunks, i64 lanes, i64 n_steps, i64 row_stride, i64 panel_chunks,              \
        i64 n_panels, i64 n_sub, i64 m_lane, i64 n_in, i64 num, i64 den, i64 n_distinct,                   \
        u64 by_rows, u64 by_steps, u64 by_den, u64 by_distinct
#define XP_ORDER_NAMES                                                                                  \
    rows, cols, chunks, lanes, n_steps, row_stride, panel_chunks, n_panels, n_sub, m_lane, n_in, num, den, \
        n_distinct, by_rows, by_steps, by_den, by_distinct

// Names as above; by_x is min(2^64 - 1, 2^64 / x), for xp_divide.
struct Order {
    i64 rows, cols, chunks, lanes, n_steps, row_stride, panel_chunks, n_panels, n_sub, m_lane;
    i64 n_in, num, den, n_distinct;
    u64 by_rows, by_steps, by_den, by_distinct;
};
