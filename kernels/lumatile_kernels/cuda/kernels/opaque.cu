// Checks whether every pixel of an RGBA image of bytes has the alpha 255.

typedef unsigned int u32;
typedef long long i64;

enum { THREADS = 256 };

// opaque.py has the same fields in the same order.
struct Alpha {
    const u32* pixels;
    i64 count;
    u32* translucent;  // (1,): set to 1 if a pixel is not opaque
};

extern "C" __global__ void find_translucent(const Alpha alpha) {
    for (i64 i = (i64)blockIdx.x * THREADS + threadIdx.x; i < alpha.count; i += (i64)gridDim.x * THREADS) {
        if (alpha.pixels[i] >> 24 != 255) *alpha.translucent = 1;
    }
}
