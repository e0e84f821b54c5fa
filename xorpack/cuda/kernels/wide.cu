// In front of the products of 256 columns: asynchronous tensor cores, copies and barriers of compute capability 9.0 (which
// the compiler calls sm_90a), and the pipeline that keeps them busy.
//
// A block has two groups of four warps, 64 rows each, whose weights are operands in registers, and a warp that copies
// activations. wgmma.m64n256k16, A = weights, B = activations, sums in float32: warp w of a group has rows 16 w + .., and
// its lanes the operands of mma.m16n8k16 (lane (g, t) = (lane / 4, lane % 4)): a[0] row g, columns 2 t, 2 t + 1; a[1] row
// g + 8; a[2], a[3] columns 2 t + 8, 2 t + 9. sums[4 j + c]: c 0, 1 of row g, 2, 3 of row g + 8, column 8 j + 2 t + (c & 1).
//
// Columns are taken in *quads* of 128, as 8 products of 16; lane (g, t) brings chunk 4 Q + t, product u bits u, u + 8
// (a[0], a[1]), u + 16, u + 24 (a[2], a[3]) of it. wide_activations has them in that order: 8192 bytes a product, matrices of
// 8 columns x 16 bytes one behind the other, all 256 columns of the first 8 numbers, then those of the others: no two
// of the 16 bytes that are read together lie in the same banks, without swizzling.
//
// A *stage* is half a quad, 32 KB. Of its barriers `full` counts bytes, `empty` the eight warps that have read it.
// Hazards: operands of a stage are in registers of their own until its products are done (two sets, and at most one
// stage in flight when a set is written); sums are not touched before the last wait. A stage is overwritten when all
// eight warps have waited for products that read it; copies and tensor cores are of the same proxy, so that nothing but
// the barriers' beginning needs a fence of proxies. A phase of a barrier is a round of all stages.

#define XP_COLUMNS 256
#define XP_STAGE_BYTES 32768
#define XP_GROUPS 2
#define XP_BLOCK_ROWS (64 * XP_GROUPS)
#define XP_COPIER (4 * XP_GROUPS)  // the warp that copies, first of a group of its own
#define XP_THREADS (128 * XP_GROUPS + 128)
#ifndef XP_GROUP
#define XP_GROUP 4
#endif
#ifndef XP_STAGES
#define XP_STAGES 4
#endif

// The upper half of a descriptor: 128 bytes to the next 8 columns; no swizzling.
#define XP_DESCRIPTOR_HIGH (128 >> 4)

#ifndef XP_ON_HOST
// Where memory of the block lies, as descriptors and barriers have it.
__device__ __forceinline__ u32 xp_shared_address(const void* pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

// Registers that a group which only copies does not need are the others'.
__device__ __forceinline__ void xp_registers_give() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
}
__device__ __forceinline__ void xp_registers_take() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
}

// The word so many bytes behind that address.
template <int Behind> __device__ __forceinline__ u32 xp_shared_word(u32 address) {
    u32 word;
    asm volatile("ld.shared.u32 %0, [%1 + %2];" : "=r"(word) : "r"(address), "n"(Behind));
    return word;
}

__device__ __forceinline__ void xp_shared_store(u32 address, u32 word) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(word) : "memory");
}

__device__ __forceinline__ void xp_barrier_begin(u64* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(xp_shared_address(barrier)), "r"(arrivals) : "memory");
}

// Barriers are begun for copies too.
__device__ __forceinline__ void xp_barriers_begun() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void xp_barrier_arrive(u64* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(xp_shared_address(barrier)) : "memory");
}

// Until the phase of that parity is over.
__device__ __forceinline__ void xp_barrier_wait(u64* barrier, u32 parity) {
    u32 over;
    do {
        asm volatile(
            "{ .reg .pred over; mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2; selp.u32 %0, 1, 0, over; }"
            : "=r"(over)
            : "r"(xp_shared_address(barrier)), "r"(parity)
            : "memory");
    } while (!over);
}

// Bytes from global memory, a multiple of 16, on their way; `barrier` is told of them before.
__device__ __forceinline__ void xp_copy(void* to, const void* from, u32 bytes, u64* barrier) {
    const u32 at = xp_shared_address(barrier);
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     xp_shared_address(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(at)
                 : "memory");
}

// What registers hold is ready for products.
__device__ __forceinline__ void xp_products_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// The products until here are one group.
__device__ __forceinline__ void xp_products_end() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Until all but the last `Left` groups are done.
template <int Left> __device__ __forceinline__ void xp_products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Left) : "memory");
}

// Written before what follows, in the order of the text.
__device__ __forceinline__ void xp_pin(float& value) {
    asm volatile("" : "+f"(value)::"memory");
}
__device__ __forceinline__ void xp_pin(u32& value) {
    asm volatile("" : "+r"(value)::"memory");
}

#define XP_SUMS_4(n) "+f"(sums[n]), "+f"(sums[n + 1]), "+f"(sums[n + 2]), "+f"(sums[n + 3])
#define XP_SUMS_16(n) XP_SUMS_4(n), XP_SUMS_4(n + 4), XP_SUMS_4(n + 8), XP_SUMS_4(n + 12)
#if XP_X == 1
#define XP_WGMMA "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 "
#else
#define XP_WGMMA "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
#endif

// sums += a b, some time before the group is waited for.
__device__ __forceinline__ void xp_product(float (&sums)[128], const u32 (&a)[4], u32 b) {
    asm volatile(
        "{ .reg .pred add; .reg .b64 b; setp.eq.u32 add, 0, 0; mov.b64 b, {%132, %133}; " XP_WGMMA
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "{%128, %129, %130, %131}, b, add, 1, 1, 0; }"
        : XP_SUMS_16(0),
          XP_SUMS_16(16),
          XP_SUMS_16(32),
          XP_SUMS_16(48),
          XP_SUMS_16(64),
          XP_SUMS_16(80),
          XP_SUMS_16(96),
          XP_SUMS_16(112)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b), "n"(XP_DESCRIPTOR_HIGH));
}
#else
inline void xp_pin(float&) {}
inline void xp_pin(u32&) {}
inline void xp_product(float (&sums)[128], const u32 (&a)[4], u32 b) {
    xp_wgmma(sums, a, (u64)XP_DESCRIPTOR_HIGH << 32 | b);
}
#endif

// What the tensor cores are told of a product's activations, its lower half: where they begin, and 4096 bytes to the other 8
// numbers of a column. All in units of 16 bytes.
__device__ __forceinline__ u32 xp_descriptor(u32 address) {
    return (address & 0x3FFFF) >> 4 | (4096 >> 4) << 16;
}

// Where shared memory's addresses have no lower 16 bits, behind the barriers.
__device__ __forceinline__ char* xp_aligned() {
    return (char*)xp_shared() + 65536 - (xp_shared_address(xp_shared()) & 65535);
}

// Barriers and stages in shared memory.
struct Stages {
    u64* full;
    u64* empty;
    char* data;
    u32 at, phase;  // the stage that is next, and the parity of its round

    __device__ __forceinline__ void begin(char* barriers, char* stages) {
        full = (u64*)barriers, empty = full + XP_STAGES, data = stages;
        at = phase = 0;
        if (threadIdx.x == 0) {
            for (int stage = 0; stage < XP_STAGES; ++stage) {
                xp_barrier_begin(full + stage, 1);
                xp_barrier_begin(empty + stage, XP_COPIER);
            }
            xp_barriers_begun();
        }
    }

    __device__ __forceinline__ void go_on() {
        if (++at < XP_STAGES) return;
        at = 0, phase ^= 1;
    }

    // By one lane: all stages from `from`, which lie one behind the other, as soon as there is room.
    __device__ __forceinline__ void copy(const char* from, i64 n) {
        for (i64 stage = 0; stage < n; ++stage, from += XP_STAGE_BYTES) {
            if (stage >= XP_STAGES) xp_barrier_wait(empty + at, phase ^ 1);
            xp_copy(data + at * XP_STAGE_BYTES, from, XP_STAGE_BYTES, full + at);
            go_on();
        }
    }
};

// Products of quads first .. last - 1. weights.quad(Q) makes ready the next quad, weights.operands(u, a) operands of its
// products u ..: that runs while those before are multiplied.
template <class Operands>
__device__ __forceinline__ void xp_multiply(Operands& weights, Stages& stages, i64 first, i64 last, float (&sums)[128]) {
    u32 a[2][XP_GROUP][4];
    u32 before = XP_STAGES;
#pragma unroll
    for (int c = 0; c < 128; ++c) sums[c] = 0.0f, xp_pin(sums[c]);
    const u32 descriptor = xp_descriptor(xp_shared_address(stages.data));
    for (i64 quad = first; quad < last; ++quad) {
        weights.quad(quad);
#pragma unroll
        for (int part = 0; part < 8 / XP_GROUP; ++part) {
            const int u = part * XP_GROUP;
            weights.operands(u, a[part & 1]);
#pragma unroll
            for (int c = 0; c < 4 * XP_GROUP; ++c) xp_pin(a[part & 1][c >> 2][c & 3]);
            if (u % 4 == 0) xp_barrier_wait(stages.full + stages.at, stages.phase);
            xp_products_begin();
#pragma unroll
            for (int more = 0; more < XP_GROUP; ++more)
                xp_product(sums, a[part & 1][more],
                           descriptor + stages.at * (XP_STAGE_BYTES >> 4) + (u % 4 + more) * (8192 >> 4));
            xp_products_end();
            xp_products_wait<1>();
            if (u % 4 == 0 && before < XP_STAGES && (threadIdx.x & 31) == 0) xp_barrier_arrive(stages.empty + before);
            if ((u + XP_GROUP) % 4) continue;
            before = stages.at;
            stages.go_on();
        }
    }
    xp_products_wait<0>();
#pragma unroll
    for (int c = 0; c < 128; ++c) xp_pin(sums[c]);
}

// Sums by the factors of this lane's rows, row0 + 2 g (row g of the product) and the next one (row g + 8), to
// out[column * stride + row], elements of a type.
template <int Type>
__device__ __forceinline__ void xp_store_sums(const float (&sums)[128], const float (&factors)[2], i64 row0, i64 rows, i64 n,
                                              void* out, i64 stride) {
    const i64 row = row0 + (threadIdx.x >> 2 & 7) * 2, first = blockIdx.z * (i64)XP_COLUMNS + 2 * (threadIdx.x & 3);
    const int columns = row < rows ? (int)min(n - first, (i64)XP_COLUMNS) : 0;
    const int both = row + 1 < rows ? columns : 0;
    char* to = (char*)out + (first * stride + row) * (Type ? 2 : 4);
#pragma unroll
    for (int c = 0; c < 64; ++c) {
        const int from = c / 2 * 4 + (c & 1), column = c / 2 * 8 + (c & 1);
        if (column < columns) xp_store(to, 0, Type, factors[0] * sums[from]);
        if (column < both) xp_store(to, 1, Type, factors[1] * sums[from + 2]);
        to += (c & 1 ? 7 : 1) * stride * (Type ? 2 : 4);
    }
}
