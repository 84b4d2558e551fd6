// The order of a point cloud, in four steps, with a sort between the last two; numpy_points.py is the specification.
//
// SOURCE: float or double; AXES: 2 or 3. Every kernel runs with any number of blocks.

typedef unsigned char u8;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

enum { THREADS = 256, AXIS_BITS = 21 };

// points.py has the same fields in the same order.
struct Cloud {
    i64 points;
    i64 coarsest;           // the number of the coarsest level
    i64 starts[16];         // the index at which each level begins in stored order
    const SOURCE* positions;  // (points, AXES)
    u64* origin;            // (3,): for each axis the complement of the ordered bits of the least coordinate; 0: none
    u32* extent;            // (1,): the bits of the greatest offset
    float* offsets;         // (points, AXES), as logged
    u64* keys;              // (points,)
    const i64* by_key;      // (points,): rows in the order of their keys
    i64* order;             // (points,): rows in stored order
    float* stored;          // (points, AXES): offsets in stored order
};

__device__ inline bool is_finite(double x) { return x - x == 0.0; }

// Bits that sort like the values.
__device__ inline u64 ordered(double x) {
    u64 bits = (u64)__double_as_longlong(x);
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}

__device__ inline double origin_of(const Cloud& cloud, int axis) {
    u64 bits = ~cloud.origin[axis];
    if (!~bits) return 0.0;  // no position is finite
    return __longlong_as_double((i64)(bits >> 63 ? bits & ~(1ull << 63) : ~bits));
}

extern "C" __global__ void find_origin(const Cloud cloud) {
    __shared__ u64 best[AXES];
    if (threadIdx.x < AXES) best[threadIdx.x] = 0;
    __syncthreads();
    u64 mine[AXES] = {};
    for (i64 i = (i64)blockIdx.x * THREADS + threadIdx.x; i < cloud.points; i += (i64)gridDim.x * THREADS) {
        double at[AXES];
        bool all = true;
        for (int axis = 0; axis < AXES; axis++) {
            at[axis] = (double)cloud.positions[i * AXES + axis] + 0.0;  // -0 becomes +0
            all = all && is_finite(at[axis]);
        }
        for (int axis = 0; all && axis < AXES; axis++) mine[axis] = max(mine[axis], ~ordered(at[axis]));
    }
    for (int axis = 0; axis < AXES; axis++) {
        if (mine[axis]) atomicMax(best + axis, mine[axis]);
    }
    __syncthreads();
    if (threadIdx.x < AXES && best[threadIdx.x]) atomicMax(cloud.origin + threadIdx.x, best[threadIdx.x]);
}

extern "C" __global__ void subtract_origin(const Cloud cloud) {
    __shared__ u32 greatest;
    if (threadIdx.x == 0) greatest = 0;
    __syncthreads();
    u32 mine = 0;
    for (i64 i = (i64)blockIdx.x * THREADS + threadIdx.x; i < cloud.points; i += (i64)gridDim.x * THREADS) {
        float offset[AXES];
        bool all = true;
        for (int axis = 0; axis < AXES; axis++) {
            offset[axis] = (float)((double)cloud.positions[i * AXES + axis] - origin_of(cloud, axis)) + 0.0f;
            all = all && is_finite(offset[axis]);
        }
        for (int axis = 0; axis < AXES; axis++) {
            u32 bits = all ? __float_as_uint(offset[axis]) : 0x7FC00000u;
            if (all) mine = max(mine, bits);
            cloud.offsets[i * AXES + axis] = __uint_as_float(bits);
        }
    }
    if (mine) atomicMax(&greatest, mine);
    __syncthreads();
    if (threadIdx.x == 0 && greatest) atomicMax(cloud.extent, greatest);
}

// The low 21 (3 axes) or 32 bits, with AXES - 1 zeros after each.
__device__ inline u64 spread(u64 bits) {
    if (AXES == 2) {
        bits = (bits | bits << 16) & 0x0000FFFF0000FFFFull;
        bits = (bits | bits << 8) & 0x00FF00FF00FF00FFull;
        bits = (bits | bits << 4) & 0x0F0F0F0F0F0F0F0Full;
        bits = (bits | bits << 2) & 0x3333333333333333ull;
        return (bits | bits << 1) & 0x5555555555555555ull;
    }
    bits = (bits | bits << 32) & 0x001F00000000FFFFull;
    bits = (bits | bits << 16) & 0x001F0000FF0000FFull;
    bits = (bits | bits << 8) & 0x100F00F00F00F00Full;
    bits = (bits | bits << 4) & 0x10C30C30C30C30C3ull;
    return (bits | bits << 2) & 0x1249249249249249ull;
}

extern "C" __global__ void encode_keys(const Cloud cloud) {
    const float extent = __uint_as_float(*cloud.extent);
    const bool sized = extent >= 7.888609052210118e-31f;  // 2^-100
    const float scale = sized ? 2097152.0f / extent : 0.0f;
    for (i64 i = (i64)blockIdx.x * THREADS + threadIdx.x; i < cloud.points; i += (i64)gridDim.x * THREADS) {
        u64 key = 0;
        for (int axis = 0; axis < AXES; axis++) {
            const float offset = cloud.offsets[i * AXES + axis];
            if (offset != offset) {
                key = 1ull << 63;
            } else if (sized) {
                key |= spread((u64)fminf(offset * scale, 2097151.0f)) << axis;
            }
        }
        cloud.keys[i] = key;
    }
}

extern "C" __global__ void store_points(const Cloud cloud) {
    for (i64 rank = (i64)blockIdx.x * THREADS + threadIdx.x; rank < cloud.points; rank += (i64)gridDim.x * THREADS) {
        i64 level = 0, place = rank;
        while (level < cloud.coarsest && place % 4 == 0) {
            level++;
            place /= 4;
        }
        if (level < cloud.coarsest) place -= (place + 3) / 4;  // those are in coarser levels
        place += cloud.starts[level];
        const i64 row = cloud.by_key[rank];
        cloud.order[place] = row;
        for (int axis = 0; axis < AXES; axis++) cloud.stored[place * AXES + axis] = cloud.offsets[row * AXES + axis];
    }
}
