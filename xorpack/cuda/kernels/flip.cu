// flip: inverts bits of words.
//
// In:     items 0 .. n - 1 in lists, one for every 2^16 bits: list l is entries[starts[l]] .. entries[starts[l + 1] - 1],
//         an entry is a bit's place in its 2^16. Bit b of the words is words[b / 32] >> b % 32 & 1.
// Out:    words, inverted there.
// Launch: any grid and block, no shared memory; a thread has an item.
// Bytes:  2 an item, and a word read and written.

extern "C" __global__ void __launch_bounds__(256, 1)
flip(const u32* __restrict__ starts, i64 n_lists, const unsigned short* __restrict__ entries, i64 n,
     u32* __restrict__ words) {
    for (i64 at = blockIdx.x * (i64)blockDim.x + threadIdx.x; at < n; at += (i64)gridDim.x * blockDim.x) {
        const i64 bit = xp_list_of(starts, n_lists, at) << 16 | entries[at];
        atomicXor(words + (bit >> 5), 1u << (bit & 31));
    }
}
