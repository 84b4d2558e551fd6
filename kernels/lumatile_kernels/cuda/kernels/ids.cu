// Class ids of any integer type, narrowed to 16 bits; the extremes of the ids that do not fit are reported.
//
// SOURCE: signed char, short, int, i64, u32 or u64.

typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

enum { THREADS = 256 };

// ids.py has the same fields in the same order.
struct Ids {
    const SOURCE* wide;
    u16* narrow;
    i64 count;
    u64* outside;  // (2,): the magnitude of the least negative id, and the greatest id above 65535; 0: none
};

extern "C" __global__ void narrow_ids(const Ids ids) {
    u64 below = 0, above = 0;
    for (i64 i = (i64)blockIdx.x * THREADS + threadIdx.x; i < ids.count; i += (i64)gridDim.x * THREADS) {
        const SOURCE id = ids.wide[i];
        const bool negative = (SOURCE)-1 < (SOURCE)0 && id < (SOURCE)1 && id != (SOURCE)0;
        const u64 magnitude = negative ? 0 - (u64)(i64)id : (u64)id;
        if (negative) {
            below = max(below, magnitude);
        } else if (magnitude > 65535) {
            above = max(above, magnitude);
        }
        ids.narrow[i] = (u16)id;
    }
    if (below) atomicMax(ids.outside, below);
    if (above) atomicMax(ids.outside + 1, above);
}
