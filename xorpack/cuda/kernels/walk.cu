// Words by a walk down the rows, where XP_UNROLLED, and tiles of words by either way.

#if XP_UNROLLED
__device__ constexpr int xp_offsets[XP_DISTINCT][XP_TAPS] = XP_OFFSETS;
#if XP_TURNED
__constant__ int xp_rotations[XP_TURNED] = XP_ROTATIONS;
#else
__device__ constexpr int xp_rotations[XP_DISTINCT][XP_TAPS] = XP_ROTATIONS;
#endif

// A warp's way through consecutive steps of one segment: lane l keeps its window of every plane in registers.
struct Walk {
    u32 window[XP_ARRAY][XP_WINDOW + XP_AHEAD];
    const u32* at;  // where the next word of the first plane lies; those of other planes are behind it
    u32 x, m, n;    // which stored word of its lane that is; m_lane; n_steps
    u32 phase;      // (s - s % XP_HOLD) * m_lane % n_steps
    int lane;       // of the ring, that the next word is of
#if XP_TURNED
    int turn;      // s / 16 % XP_TURNED
    int rotation;  // xp_rotations[turn]
#endif

    // Loads the next stored word of the ring to place a: behind a lane's last one comes the first of the next lane.
    __device__ __forceinline__ void load(int a) {
#pragma unroll
        for (int j = 0; j < XP_PLANES; ++j) window[j][a] = at[j * 32];
        at += 32 * XP_PLANES;
        if (++x < m) return;
        x = 0;
        const int from = lane;
        lane = (lane + 1) & 31;
        at += lane - from - 32 * XP_PLANES * (i64)m;
    }

    // Ready for step s of the segment.
    __device__ __forceinline__ void begin(const Order& o, const u32* code, i64 segment, i64 s) {
        const u32* ring = code + segment * o.m_lane * (32 * XP_PLANES);
        i64 rest;
        x = (u32)xp_divide((s - s % XP_HOLD) * o.m_lane, o.n_steps, o.by_steps, rest);
        phase = (u32)rest;
        m = (u32)o.m_lane;
        n = (u32)o.n_steps;
        lane = threadIdx.x & 31;
        at = ring + x * (32ll * XP_PLANES) + lane;
#pragma unroll
        for (int a = 0; a < XP_WINDOW + XP_AHEAD; ++a) load(a);
#if XP_TURNED
        turn = (int)(s / 16 % XP_TURNED);
        rotation = xp_rotations[turn];
#endif
    }

    // The words of a step whose s % XP_DISTINCT is u, a constant after unrolling, where `kept` is 1.
    __device__ __forceinline__ void words(int u, u32 kept, u32 (&out)[XP_ARRAY]) const {
#pragma unroll
        for (int j = 0; j < XP_PLANES; ++j) {
            u32 word = 0;
#if XP_TURNED
#pragma unroll
            for (int a = 0; a < 3; ++a) word ^= window[j][xp_offsets[u][a]];
            word = xp_rotate(word, rotation);
#pragma unroll
            for (int a = 3; a < 6; ++a) word ^= window[j][xp_offsets[u][a]];
#else
#pragma unroll
            for (int a = 0; a < XP_TAPS; ++a) word ^= xp_rotate(window[j][xp_offsets[u][a]], xp_rotations[u][a]);
#endif
            out[j] = word & kept;
        }
    }

    // The window moves by so many words, for all lanes alike.
    template <int Words> __device__ __forceinline__ void move() {
        constexpr int kept = XP_WINDOW + XP_AHEAD - Words;
#pragma unroll
        for (int j = 0; j < XP_PLANES; ++j)
#pragma unroll
            for (int a = 0; a < kept; ++a) window[j][a] = window[j][a + Words];
#pragma unroll
        for (int a = 0; a < Words; ++a) load(kept + a);
    }

    // From a step whose s % XP_DISTINCT is u to the next one: the window stays or moves.
    __device__ __forceinline__ void step(int u) {
#if XP_TURNED
        if (u == 15) {
            turn = turn + 1 < XP_TURNED ? turn + 1 : 0;
            rotation = xp_rotations[turn];
        }
#endif
        if ((u + 1) % XP_HOLD) return;
        phase += XP_HOLD * m;
        // Loops, though they seldom run more than once: their variables keep their registers, where a branch would copy
        // the window on the way around it too.
#if XP_HOLD > 1
#pragma unroll 1
        while (phase >= 2 * n) {
            phase -= 2 * n;
            move<2>();
        }
#endif
#pragma unroll 1
        while (phase >= n) {
            phase -= n;
            move<1>();
        }
    }
};
#endif

// A warp decodes n <= 16 row indices of a panel into its tile: word k of row i0 + u of plane j goes to
// tile[(j * 16 + u) * 36 + k]. The stride of 36 lets eight rows of four words be read without bank conflicts.
// Words of chunks that do not exist are arbitrary or left as they were. Ends in a warp barrier.
__device__ __forceinline__ void xp_tile(const Order& o, const u32* code, const u32* taps, i64 p, i64 i0, int n,
                                        u32* tile) {
    const int lane = threadIdx.x & 31;
    u32 words[XP_ARRAY];
#if XP_UNROLLED
    int done = 0;
    while (done < n) {
        i64 first;
        const i64 segment = xp_divide(p * o.rows + i0 + done, o.n_steps, o.by_steps, first);
        const i64 last = min(o.n_steps, first + (n - done));
        Walk walk;
        walk.begin(o, code, segment, first);
        const i64 round = first - first % XP_DISTINCT;
        for (i64 base = round; base < last; base += XP_DISTINCT) {
#pragma unroll
            for (int u = 0; u < XP_DISTINCT; ++u) {
                const i64 s = base + u;
                if (s >= first && s < last) {
                    walk.words(u, 0xFFFFFFFF, words);
                    walk.step(u);
                    const int at = done + (int)(s - first);
                    const int k = (lane + (int)((i0 + at) & 31)) & 31;
#pragma unroll
                    for (int j = 0; j < XP_PLANES; ++j)
                        tile[(j * XP_TILE_ROWS + at) * XP_TILE_STRIDE + k] = words[j];
                }
            }
        }
        done += (int)(last - first);
    }
#else
    for (int u = 0; u < n; ++u) {
        if (lane < o.panel_chunks) {
            xp_words(o, code, taps, p, i0 + u, lane, words);
#pragma unroll
            for (int j = 0; j < XP_PLANES; ++j) tile[(j * XP_TILE_ROWS + u) * XP_TILE_STRIDE + lane] = words[j];
        }
    }
#endif
    __syncwarp();
}

// All warps together go through row indices i_first .. i_last - 1 of all panels, a tile of at most 16 at a time:
// body(p, i0, n, tile).
template <class Body>
__device__ __forceinline__ void xp_tiles(const Order& o, const u32* code, const u32* taps, i64 i_first, i64 i_last,
                                         Body body) {
    u32* tile = xp_shared() + (threadIdx.x >> 5) * XP_TILE_WORDS;
    const i64 tiles = (i_last - i_first + XP_TILE_ROWS - 1) / XP_TILE_ROWS;
    const i64 warps = blockDim.x >> 5, n_warps = gridDim.x * warps;
    for (i64 item = blockIdx.x * warps + (threadIdx.x >> 5); item < tiles * o.n_panels; item += n_warps) {
        const i64 p = item / tiles;
        const i64 i0 = i_first + (item - p * tiles) * XP_TILE_ROWS;
        const int n = (int)min((i64)XP_TILE_ROWS, i_last - i0);
        xp_tile(o, code, taps, p, i0, n, tile);
        body(p, i0, n, tile);
        __syncwarp();
    }
}
