// Runs the text of a CUDA kernel on the CPU: blocks one after another, the threads of a block as fibers that hand over
// to the next one at __syncthreads and at a warp's exchange. Races do not show here; everything else does.
#pragma once

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct Index {
    unsigned x, y, z;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static Index threadIdx, blockIdx, gridDim;

static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline unsigned long long max(unsigned long long a, unsigned long long b) { return a > b ? a : b; }

template <class To, class From>
static inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float x) { return bits_as<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return bits_as<float>(x); }
static inline long long __double_as_longlong(double x) { return bits_as<long long>(x); }
static inline double __longlong_as_double(long long x) { return bits_as<double>(x); }

template <class T>
static inline T __ldg(const T* at) {
    if ((unsigned long long)at % sizeof(T)) {
        fprintf(stderr, "a read of %zu bytes is not aligned: %p\n", sizeof(T), (const void*)at);
        abort();
    }
    return *at;
}
template <class T>
static inline T atomicMax(T* at, T value) {
    T old = *at;
    if (value > old) *at = value;
    return old;
}

namespace cuda_on_cpu {

const unsigned BLOCK_THREADS = 256, WARP = 32, STACK = 1 << 16;

static ucontext_t scheduler, fibers[BLOCK_THREADS];
static char* stacks;
static bool ended[BLOCK_THREADS];
static unsigned waits[BLOCK_THREADS];  // barriers a thread has come to
static unsigned exchanged[BLOCK_THREADS];
static void (*entry)();

static void hand_over() {
    unsigned me = threadIdx.x;
    swapcontext(&fibers[me], &scheduler);
    threadIdx.x = me;
}

// Waits until all threads of a group have come as often as this one; an ended thread counts as come.
static void barrier(unsigned first, unsigned count) {
    unsigned mine = ++waits[threadIdx.x];
    for (;;) {
        bool all = true;
        for (unsigned t = first; t < first + count; t++) all &= ended[t] || waits[t] >= mine;
        if (all) return;
        hand_over();
    }
}

static void run_thread() {
    entry();
    ended[threadIdx.x] = true;
    setcontext(&scheduler);
}

static void run_block() {
    for (unsigned t = 0; t < BLOCK_THREADS; t++) {
        ended[t] = false;
        waits[t] = 0;
        getcontext(&fibers[t]);
        fibers[t].uc_stack.ss_sp = stacks + (size_t)t * STACK;
        fibers[t].uc_stack.ss_size = STACK;
        fibers[t].uc_link = nullptr;
        makecontext(&fibers[t], run_thread, 0);
    }
    for (unsigned left = BLOCK_THREADS; left;) {
        left = 0;
        for (unsigned t = 0; t < BLOCK_THREADS; t++) {
            if (ended[t]) continue;
            threadIdx.x = t;
            swapcontext(&scheduler, &fibers[t]);
            left += !ended[t];
        }
    }
}

template <class Arguments>
struct Launch {
    static void (*kernel)(const Arguments);
    static Arguments arguments;
    static void thread() { kernel(arguments); }
};
template <class Arguments>
void (*Launch<Arguments>::kernel)(const Arguments);
template <class Arguments>
Arguments Launch<Arguments>::arguments;

// Runs `kernel` in `grid` blocks; returns 0, or the size of its arguments where `size` is another.
template <class Arguments>
static size_t launch(void (*kernel)(Arguments), unsigned grid, const void* arguments, size_t size) {
    if (size != sizeof(Arguments)) return sizeof(Arguments);
    if (!stacks) stacks = (char*)malloc((size_t)BLOCK_THREADS * STACK);
    Launch<Arguments>::kernel = kernel;
    memcpy((void*)&Launch<Arguments>::arguments, arguments, size);
    entry = Launch<Arguments>::thread;
    gridDim = {grid, 1, 1};
    for (unsigned block = 0; block < grid; block++) {
        blockIdx = {block, 0, 0};
        run_block();
    }
    return 0;
}

}  // namespace cuda_on_cpu

static inline void __syncthreads() { cuda_on_cpu::barrier(0, cuda_on_cpu::BLOCK_THREADS); }

static inline unsigned __shfl_xor_sync(unsigned, unsigned value, int lanes) {
    unsigned me = threadIdx.x, first = me / cuda_on_cpu::WARP * cuda_on_cpu::WARP;
    cuda_on_cpu::exchanged[me] = value;
    cuda_on_cpu::barrier(first, cuda_on_cpu::WARP);
    unsigned other = cuda_on_cpu::exchanged[me ^ lanes];
    cuda_on_cpu::barrier(first, cuda_on_cpu::WARP);
    return other;
}
