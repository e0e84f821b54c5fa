// Symbols of a prefix code whose codewords lie in planes of depths.

// Bit k of lane j becomes bit j of lane k.
__device__ __forceinline__ u32 xp_transpose(u32 word) {
    const int lane = threadIdx.x & 31;
    u32 low = 0x0000FFFF;
#pragma unroll
    for (int half = 16; half >= 1; half /= 2) {
        const u32 other = __shfl_xor_sync(0xFFFFFFFF, word, half);
        word = lane & half ? (other >> half & low) | (word & ~low) : (word & low) | (other & low) << half;
        low ^= low << half / 2;
    }
    return word;
}

// A plane of depths (xorpack.depths) holds n_depths words for 32 symbols. Lane l takes that of depth n_depths - 1 - l,
// bit l of a codeword's last n_depths bits, at this place of the group; xp_transpose then gives lane j those of symbol j.
__device__ __forceinline__ int xp_place(i64 n_depths, i64 stride) {
    int place = 0;
    const i64 wanted = n_depths - 1 - (threadIdx.x & 31);
    for (i64 depth = 0; wanted > 0 && depth != wanted; ++place) depth = (depth + stride) % n_depths;
    return place;
}

// The symbol whose codeword `value` begins with: run n of a canonical code has runs[2 n] = first codeword << 5 | free
// bits, runs[2 n + 1] = rank of its first symbol; n_runs is a power of two, runs behind the last begin past all values.
__device__ __forceinline__ u32 xp_symbol(const u32* runs, i64 n_runs, const u32* symbols, u32 value) {
    for (i64 half = n_runs; half >= 2; half /= 2)
        if (runs[half] >> 5 <= value) runs += half;
    return symbols[runs[1] + ((value - (runs[0] >> 5)) >> (runs[0] & 31))];
}
