// Encodes rings: the elimination of xorpack/encoding/rings/elimination.py, the same codes and corrections.
//
//   ring_equations   a block for each ring: its care bits in the order of coding, by mask and planes of the whole tensor
//   ring_eliminate   a block for each ring: pivots, and the equations that contradict others
//   ring_solve       a warp for each ring: stored words from the pivots, the last one first
//
// Macros: XP_WINDOW     stored words that an equation can depend on, rounded up to a multiple of 4
//         XP_BORDER     1: the ring's first words are a border that rows carry along; 0: they are 0
//         XP_PLANES     bits of a right-hand side
//
// What is stored does not depend on the order of the work: columns that are no pivot's are those that depend on columns
// before them (the border's are last), equations that are left out depend on equations before them. So that here columns
// go one by one, and the pivot of each is the first equation that has a bit there.
//
// A thread has an equation in registers, a warp a *batch* of 32, taken in order. It goes through the stored words of its
// windows: a word's pivots are copied to shared memory, from where all lanes read the same one and add it where they
// have its bit; of columns without a pivot, the first lane with a bit gives one, by a vote. That lane adds it too, and is
// nothing from then on. A batch is let into a word when the batch before it has left it. So the warps of a block follow
// each other through the words, a word or two apart; they meet at a barrier after every word.
//
// Words of a ring are numbered with its border last: id = word - window, or n_band + word of the border.
//   where [care bit] 32 * (lane * n_steps + step) + bit, values [care bit][XP_VALUES] bits of planes: ring r's from
//         offsets[r] on, counts[r] of them. Corrections in the same form, wrongs[r] of them, in any order.
//   pivots [ring][id][32][XP_ROW]: XP_WINDOW words from its own on, the border, the right-hand side; has [ring][id]: which
//   taps [row][XP_TAPS + 1] as in common.cu; code [ring][plane][word]
// Shared memory: ring_eliminate XP_STATE words and a tile of 32 pivots a warp, ring_solve 32 + XP_WINDOW words a plane.
// Moved: an equation's 4 + 4 * XP_VALUES bytes twice, 4 * XP_ROW bytes of its pivot about 2 times.
// Oracle: xorpack.encoding.rings.elimination.encode_ring.

#ifndef XP_WINDOW
#define XP_WINDOW 12
#endif
#ifndef XP_BORDER
#define XP_BORDER 0
#endif
#define XP_VALUES (XP_PLANES > 32 ? 2 : 1)
#define XP_SPAN 4
#define XP_ROW ((XP_WINDOW * (1 + XP_BORDER) + XP_VALUES + 3) / 4 * 4)
#define XP_WARPS 8
#define XP_ALL 0xFFFFFFFFu
enum { XP_BATCH, XP_NEXT = XP_WARPS, XP_DONE = 2 * XP_WARPS, XP_WRONG, XP_SHOWN = 2 * XP_WARPS + 2 };
#define XP_STATE 48  // two boards of XP_SHOWN words, then what is counted: batches that are done, corrections

// The word of a matrix of words that lane `lane` has at a step, -1 where there is none.
__device__ __forceinline__ i64 xp_place(i64 step, i64 lane, i64 rows, i64 chunks, i64 lanes, i64 row_stride, i64 panel_chunks, i64 n_sub) {
    const i64 c = step % n_sub, visit = step / n_sub, i = visit % rows;
    const i64 k = (c * lanes + lane + i) % (n_sub * lanes), chunk = visit / rows * panel_chunks + k;
    return k < panel_chunks && chunk < chunks ? i * row_stride % rows * chunks + chunk : -1;
}

// Rings segments[0], ...; where `write` is 0, they are counted only.
extern "C" __global__ void __launch_bounds__(256)
ring_equations(const u32* __restrict__ mask, const u32* __restrict__ planes, i64 rows, i64 chunks, i64 lanes, i64 n_steps, i64 row_stride,
    i64 panel_chunks, i64 n_sub, const i64* segments, const i64* offsets, i64 write, u32* where, u32* values, i64* counts) {
    u32* sums = xp_shared();
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    const i64 ring_words = lanes * n_steps, first = segments[blockIdx.x] * n_steps;
    i64 begin = write ? offsets[blockIdx.x] : 0;
    const i64 origin = begin;
    for (i64 n = 0; n < ring_words; n += 256) {
        const i64 word = n + threadIdx.x;
        i64 place = -1;
        if (word < ring_words) place = xp_place(first + word % n_steps, word / n_steps, rows, chunks, lanes, row_stride, panel_chunks, n_sub);
        u32 care = place < 0 ? 0 : mask[place];
        u32 before = __popc(care);
        for (int distance = 1; distance < 32; distance *= 2) {
            const u32 other = __shfl_sync(XP_ALL, before, lane - distance);
            if (lane >= distance) before += other;
        }
        if (lane == 31) sums[warp] = before;
        __syncthreads();
        u32 total = 0;
        for (int w = 0; w < 8; ++w) {
            if (w == warp) before += total;
            total += sums[w];
        }
        __syncthreads();
        i64 at = begin + before - __popc(care);
        begin += total;
        if (!write) continue;
        u32 bits[XP_ARRAY];
#pragma unroll
        for (int j = 0; j < XP_PLANES; ++j) bits[j] = care ? planes[j * rows * chunks + place] : 0;
        for (; care; care &= care - 1, ++at) {
            const int b = __ffs((int)care) - 1;
            where[at] = (u32)(32 * word + b);
#pragma unroll
            for (int v = 0; v < XP_VALUES; ++v) {
                u32 value = 0;
#pragma unroll
                for (int j = 32 * v; j < min(XP_PLANES, 32 * v + 32); ++j) value |= (bits[j] >> b & 1) << (j & 31);
                values[at * XP_VALUES + v] = value;
            }
        }
    }
    if (!threadIdx.x) counts[blockIdx.x] = begin - origin;
}

__device__ __forceinline__ void xp_read(const u32* from, u32 (&row)[XP_ROW]) {
#pragma unroll
    for (int a = 0; a < XP_ROW; a += 4) {
        const uint4 four = *(const uint4*)(from + a);
        row[a] = four.x, row[a + 1] = four.y, row[a + 2] = four.z, row[a + 3] = four.w;
    }
}

// A thread's equation: stored words from that of the warp's turn on, the border, the right-hand side.
struct Equation {
    u32 band[XP_WINDOW + XP_SPAN], border[XP_BORDER ? XP_WINDOW : 1], value[XP_VALUES];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int a = 0; a < XP_WINDOW + XP_SPAN; ++a) band[a] = 0;
#pragma unroll
        for (int a = 0; a < (XP_BORDER ? XP_WINDOW : 1); ++a) border[a] = 0;
#pragma unroll
        for (int v = 0; v < XP_VALUES; ++v) value[v] = 0;
    }

    __device__ __forceinline__ void store(u32* to) const {
        u32 row[XP_ROW];
#pragma unroll
        for (int a = 0; a < XP_ROW; ++a) row[a] = 0;
#pragma unroll
        for (int a = 0; a < XP_WINDOW; ++a) row[a] = band[a];
#if XP_BORDER
#pragma unroll
        for (int a = 0; a < XP_WINDOW; ++a) row[XP_WINDOW + a] = border[a];
#endif
#pragma unroll
        for (int v = 0; v < XP_VALUES; ++v) row[XP_WINDOW * (1 + XP_BORDER) + v] = value[v];
#pragma unroll
        for (int a = 0; a < XP_ROW; a += 4) *(uint4*)(to + a) = make_uint4(row[a], row[a + 1], row[a + 2], row[a + 3]);
    }

    // Adds the pivot at `from` where bit 31 of `hits` is 1; not a branch, for lanes differ.
    __device__ __forceinline__ void add(const u32* from, u32 hits) {
        u32 row[XP_ROW];
        xp_read(from, row);
        const u32 hit = (u32)((int)hits >> 31);
#pragma unroll
        for (int a = 0; a < XP_WINDOW; ++a) band[a] ^= row[a] & hit;
#if XP_BORDER
#pragma unroll
        for (int a = 0; a < XP_WINDOW; ++a) border[a] ^= row[XP_WINDOW + a] & hit;
#endif
#pragma unroll
        for (int v = 0; v < XP_VALUES; ++v) value[v] ^= row[XP_WINDOW * (1 + XP_BORDER) + v] & hit;
    }

    // Words of the band, or of the border, that are not 0, in one.
    __device__ __forceinline__ u32 either(bool of_border) const {
        u32 found = 0;
        if (of_border) {
#pragma unroll
            for (int a = 0; a < (XP_BORDER ? XP_WINDOW : 1); ++a) found |= border[a];
        } else {
#pragma unroll
            for (int a = 0; a < XP_WINDOW + XP_SPAN; ++a) found |= band[a];
        }
        return found;
    }
};

// All columns of one word: the warp's rows are reduced by its pivots, and give those that it lacks. `tile` is the warp's.
__device__ __forceinline__ void xp_reduce(Equation& own, u32* has, u32* pivots, u32* tile) {
    const int lane = threadIdx.x & 31;
    const u32 before = *has;
    u32 standing = before;
#pragma unroll
    for (int a = 0; a < XP_ROW / 4; ++a) ((uint4*)tile)[32 * a + lane] = ((const uint4*)pivots)[32 * a + lane];
    __syncwarp();
#pragma unroll
    for (int first = 0; first < 32; first += 8) {
        if (!(before >> first & 255)) continue;
#pragma unroll
        for (int b = first; b < first + 8; ++b)  // no branch: pivots are loaded ahead
            own.add(tile + b * XP_ROW, (own.band[0] & before) << (31 - b));
    }
    __syncwarp();  // rows of columns without a pivot were read too
    // What is left has no bit in a pivot's column, and cannot get any.
    for (u32 some; (some = __reduce_or_sync(XP_ALL, own.band[0]));) {
        const int b = __ffs((int)some) - 1;
        const u32 hit = own.band[0] >> b & 1, votes = __ballot_sync(XP_ALL, hit);
        if (lane == __ffs((int)votes) - 1) own.store(tile + b * XP_ROW);
        standing |= 1u << b;
        __syncwarp();
        own.add(tile + b * XP_ROW, hit << 31);
    }
    if (standing != before) {
#pragma unroll
        for (int a = 0; a < XP_ROW / 4; ++a) ((uint4*)pivots)[32 * a + lane] = ((const uint4*)tile)[32 * a + lane];
        if (!lane) *has = standing;
    }
#pragma unroll
    for (int a = 1; a < XP_WINDOW + XP_SPAN; ++a) own.band[a - 1] = own.band[a];
    own.band[XP_WINDOW + XP_SPAN - 1] = 0;
}

extern "C" __global__ void __launch_bounds__(32 * XP_WARPS, 2)
ring_eliminate(const u32* __restrict__ where, const u32* __restrict__ values, const i64* offsets, const i64* counts, const u32* __restrict__ taps,
    i64 n_taps, i64 n_distinct, i64 window, i64 lanes, i64 n_steps, i64 m_lane, i64 n_in, i64 num, i64 den, i64 hold, i64 most,
    u32* has, u32* pivots, u32* wrong_where, u32* wrong_values, i64* wrongs) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
    const int m = (int)(lanes * m_lane), width = (int)window, n_band = max(m - width, 0), n_border = XP_BORDER ? min(width, m) : 0;
    const i64 offset = offsets[blockIdx.x];
    const u32 n = (u32)counts[blockIdx.x], n_batches = (n + 31) / 32;
    has += blockIdx.x * (i64)(n_band + n_border);
    pivots += blockIdx.x * (i64)(n_band + n_border) * (32 * XP_ROW);
    u32 *boards = xp_shared(), *counted = boards + 2 * XP_SHOWN, *tile = boards + XP_STATE + warp * 32 * XP_ROW;
    if (threadIdx.x < XP_STATE) boards[threadIdx.x] = threadIdx.x % XP_SHOWN < XP_WARPS && threadIdx.x < 2 * XP_SHOWN ? threadIdx.x % XP_SHOWN : 0;
    __syncthreads();

    Equation own;
    own.clear();
    u32 batch = warp, rest = 0, position = 0;  // rest: lanes of the batch whose turn is still to come
    int start = 0, id = 0, end = 0, later = 0;  // later: where the rest begins
    bool in_border = false, has_rows = false;
    for (u32 turn = 0;; ++turn) {
        const u32* seen = boards + (turn & 1) * XP_SHOWN;
        u32* shown = boards + (~turn & 1) * XP_SHOWN;
        if (seen[XP_DONE] == n_batches || seen[XP_WRONG] >= (u64)most) break;
        if (batch < n_batches) {
            bool settles = false;
            if (!has_rows) {  // the batch's next rows, as many as lie close together
                if (!rest) {
                    const u32 e = 32 * batch + lane;
                    position = e < n ? where[offset + e] : 0;
                    const u32 word = position >> 5, own_lane = word / (u32)n_steps, t = word - own_lane * (u32)n_steps;
                    start = (int)(own_lane * m_lane + n_in * ((i64)(t - t % (u32)hold) * num / den));
                    rest = __ballot_sync(XP_ALL, e < n);
                }
                const int first = __shfl_sync(XP_ALL, start, __ffs((int)rest) - 1);
                const bool taken = rest >> lane & 1 && start <= first + XP_SPAN;
                const u32 takes = __ballot_sync(XP_ALL, taken);  // starts rise: the first ones of the rest
                const int last = __shfl_sync(XP_ALL, start, 31 - __clz((int)takes));
                rest ^= takes;
                const int base = max(first, width);
                id = base - width;
                end = max(id, min(last + width, m) - width);
                const int other = __shfl_sync(XP_ALL, start, __ffs((int)rest) - 1);
                later = rest ? max(other, width) - width : 0x7FFFFFFF;
                own.clear();
                in_border = false;
                has_rows = true;
                if (taken) {
                    const u32 e = 32 * batch + lane, t = (position >> 5) % (u32)n_steps;
                    const u32* tap = taps + t % (u32)n_distinct * (u32)(n_taps + 1);
#pragma unroll
                    for (int v = 0; v < XP_VALUES; ++v) own.value[v] = values[(offset + e) * XP_VALUES + v];
                    for (u32 k = m ? *tap : 0; k; --k) {
                        const int word = start + (int)(tap[k] >> 5);
                        const u32 bit = 1u << ((position - tap[k]) & 31);
                        if (word >= width && word < m) {
#pragma unroll
                            for (int a = 0; a < XP_WINDOW + XP_SPAN; ++a) own.band[a] ^= word - base == a ? bit : 0;
                        } else if (XP_BORDER) {
#pragma unroll
                            for (int a = 0; a < (XP_BORDER ? XP_WINDOW : 1); ++a) own.border[a] ^= word % m == a ? bit : 0;
                        }
                    }
                }
                settles = id == end;
            } else {
                const u32* former = seen + (warp + XP_WARPS - 1) % XP_WARPS;
                if (former[XP_BATCH] >= batch || (former[XP_BATCH] + 1 == batch && former[XP_NEXT] > (u32)id)) {
                    xp_reduce(own, has + id, pivots + (i64)id * (32 * XP_ROW), tile);
                    ++id;
                    settles = id == end || !__ballot_sync(XP_ALL, own.either(false) != 0);
                }
            }
            if (settles && XP_BORDER && !in_border && __ballot_sync(XP_ALL, own.either(true) != 0)) {
#pragma unroll
                for (int a = 0; a < (XP_BORDER ? XP_WINDOW : 0); ++a) own.band[a] = own.border[a], own.border[a] = 0;
                id = n_band, end = n_band + n_border;
                in_border = true;
            } else if (settles) {  // rows that are no pivot's are 0 by now; on the right of those that contradict others is something
                u32 left = own.value[0];
                if (XP_VALUES > 1) left |= own.value[XP_VALUES - 1];
                if (left) {
                    const i64 at = offset + atomicAdd(counted + 1, 1u);
                    wrong_where[at] = position;
#pragma unroll
                    for (int v = 0; v < XP_VALUES; ++v) wrong_values[at * XP_VALUES + v] = own.value[v];
                }
                __syncwarp();
                has_rows = false;
                id = later;
                if (!rest) {
                    if (!lane) atomicAdd(counted, 1u);
                    batch += XP_WARPS;
                    id = later = 0;
                }
            }
        }
        if (!lane) shown[XP_BATCH + warp] = batch, shown[XP_NEXT + warp] = min(id, later);
        // Others may be adding just now: what is missed is there a turn later.
        if (!threadIdx.x) shown[XP_DONE] = *(volatile u32*)counted, shown[XP_WRONG] = *(volatile u32*)(counted + 1);
        __syncthreads();
    }
    if (!threadIdx.x) wrongs[blockIdx.x] = counted[1];
}

extern "C" __global__ void __launch_bounds__(32)
ring_solve(const u32* __restrict__ has, const u32* __restrict__ pivots, i64 window, i64 m, u32* code) {
    const int lane = threadIdx.x, width = (int)window, n_band = max((int)m - width, 0), n_border = XP_BORDER ? min(width, (int)m) : 0;
    has += blockIdx.x * (i64)(n_band + n_border);
    pivots += blockIdx.x * (i64)(n_band + n_border) * (32 * XP_ROW);
    code += blockIdx.x * XP_PLANES * m;
    u32 *solved = xp_shared(), *border = solved + 32 * XP_PLANES;  // [plane][id % 32], [plane][word]
    for (int p = 0; p < XP_PLANES; ++p) {
        solved[32 * p + lane] = 0;
        if (lane < XP_WINDOW) border[XP_WINDOW * p + lane] = 0;
        if (!XP_BORDER && lane < min(width, (int)m)) code[p * m + lane] = 0;
    }
    __syncwarp();
    const int n = n_band + n_border;
    u32 next[XP_ROW];
    if (n) xp_read(pivots + ((i64)(n - 1) * 32 + lane) * XP_ROW, next);
    for (int id = n - 1; id >= 0; --id) {
        u32 row[XP_ROW], value[XP_VALUES];
#pragma unroll
        for (int a = 0; a < XP_ROW; ++a) row[a] = next[a];
        if (id) xp_read(pivots + ((i64)(id - 1) * 32 + lane) * XP_ROW, next);
        const bool stands = has[id] >> lane & 1;
#pragma unroll
        for (int v = 0; v < XP_VALUES; ++v) value[v] = stands ? row[XP_WINDOW * (1 + XP_BORDER) + v] : 0;
        if (!stands) row[0] = 0;
        for (int p = 0; p < XP_PLANES; ++p) {
            u32 sum = 0;
#pragma unroll
            for (int a = 1; a < XP_WINDOW; ++a) sum ^= row[a] & solved[32 * p + (id + a & 31)];
#if XP_BORDER
#pragma unroll
            for (int a = 0; a < XP_WINDOW; ++a) sum ^= row[XP_WINDOW + a] & border[XP_WINDOW * p + a];
#endif
            const u32 bit = stands ? __popc(sum) & 1 : 0;
            if (XP_VALUES > 1 && p >= 32) value[XP_VALUES - 1] ^= bit << (p & 31);
            else value[0] ^= bit << (p & 31);
        }
#pragma unroll 8
        for (int b = 31; b > 0; --b) {  // columns of the word itself: those above each
            const bool hit = lane < b && row[0] >> b & 1;
#pragma unroll
            for (int v = 0; v < XP_VALUES; ++v) {
                const u32 found = __shfl_sync(XP_ALL, value[v], b);
                if (hit) value[v] ^= found;
            }
        }
        __syncwarp();
        for (int p = 0; p < XP_PLANES; ++p) {
            const u32 bits = XP_VALUES > 1 && p >= 32 ? value[XP_VALUES - 1] : value[0];
            const u32 word = __ballot_sync(XP_ALL, bits >> (p & 31) & 1);
            if (!lane) {
                solved[32 * p + (id & 31)] = word;
                if (id >= n_band) border[XP_WINDOW * p + id - n_band] = word;
                code[p * m + (id < n_band ? id + width : id - n_band)] = word;
            }
        }
        __syncwarp();
    }
}
