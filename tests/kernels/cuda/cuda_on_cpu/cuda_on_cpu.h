// Runs the text of a CUDA kernel on the CPU: blocks one after another, the threads of a block as fibers that hand over
// at __syncthreads and at a warp's exchange. In which order threads take their turns is the caller's choice, so a
// missing barrier shows in one order or another. What is undefined (an access that is not aligned, a sum that does not
// fit, a barrier that some threads do not come to) ends the launch with a message.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __shared__ static __attribute__((section("shared_memory")))
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
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
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
    return *at;
}
template <class T>
static inline T atomicMax(T* at, T value) {
    T old = *at;
    if (value > old) *at = value;
    return old;
}

// Bounds of all __shared__ variables; null where a text has none.
extern "C" __attribute__((weak, visibility("hidden"))) char __start_shared_memory[], __stop_shared_memory[];

namespace cuda_on_cpu {

const unsigned BLOCK_THREADS = 256, WARP = 32, STACK = 1 << 16;

enum State { NEW, RUNNING, AT_WARP, AT_BLOCK, ENDED };

static ucontext_t scheduler_context;
static jmp_buf scheduler, fibers[BLOCK_THREADS];
static char* stacks;
static State state[BLOCK_THREADS];
static int line[BLOCK_THREADS];  // of the barrier that a thread waits at
static unsigned exchanged[BLOCK_THREADS];
static void (*entry)();
static const char* failure;

static void leave(State waits) {
    const unsigned me = threadIdx.x;
    state[me] = waits;
    if (!_setjmp(fibers[me])) _longjmp(scheduler, 1);
    threadIdx.x = me;
}

static void barrier(State waits, int at) {
    line[threadIdx.x] = at;
    leave(waits);
}

static void fail(const char* message) {
    if (!failure) failure = message;
    leave(ENDED);
    abort();
}

static void run_thread() {
    entry();
    leave(ENDED);
    abort();
}

static void resume(unsigned t) {
    const bool fresh = state[t] == NEW;
    state[t] = RUNNING;
    threadIdx.x = t;
    if (_setjmp(scheduler)) return;
    if (!fresh) _longjmp(fibers[t], 1);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks + (size_t)t * STACK;
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, run_thread, 0);
    setcontext(&context);
}

// Who of `count`, a power of two, takes the i-th turn.
static unsigned turn(unsigned i, unsigned count, unsigned order) {
    return order == 0 ? i : order == 1 ? count - 1 - i : (i * 5 + 3) % count;
}

// Lets a group go on if all of it waits at the same barrier; false if none of it does.
static bool release(unsigned first, unsigned count, State barrier, const char* message) {
    unsigned waiting = 0;
    bool same = true;
    for (unsigned t = first; t < first + count; t++) {
        waiting += state[t] == barrier;
        same &= line[t] == line[first];
    }
    if (!waiting) return false;
    if (waiting < count || !same) failure = message;
    for (unsigned t = first; t < first + count; t++) state[t] = RUNNING;
    return true;
}

// Runs a warp as far as it gets without the others.
static void run_warp(unsigned warp, unsigned order) {
    do {
        for (unsigned i = 0; i < WARP && !failure; i++) {
            const unsigned t = warp * WARP + turn(i, WARP, order);
            if (state[t] == NEW || state[t] == RUNNING) resume(t);
        }
    } while (!failure && release(warp * WARP, WARP, AT_WARP, "not all lanes of a warp come to an exchange"));
}

static void run_block(unsigned order) {
    for (unsigned t = 0; t < BLOCK_THREADS; t++) state[t] = NEW;
    if (__start_shared_memory) memset(__start_shared_memory, 0xA5, __stop_shared_memory - __start_shared_memory);
    do {
        for (unsigned i = 0; i < BLOCK_THREADS / WARP && !failure; i++) run_warp(turn(i, BLOCK_THREADS / WARP, order), order);
    } while (!failure && release(0, BLOCK_THREADS, AT_BLOCK, "not all threads come to a __syncthreads"));
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

// Runs `kernel` in `grid` blocks; `order` of a block's threads: 0 as they are numbered, 1 backwards, 2 mixed.
// Returns null, or what has gone wrong.
template <class Arguments>
static const char* launch(void (*kernel)(Arguments), unsigned grid, unsigned order, const void* arguments, size_t size) {
    if (size != sizeof(Arguments)) return "the arguments have another size";
    if (!stacks) stacks = (char*)malloc((size_t)BLOCK_THREADS * STACK);
    Launch<Arguments>::kernel = kernel;
    memcpy((void*)&Launch<Arguments>::arguments, arguments, size);
    entry = Launch<Arguments>::thread;
    failure = nullptr;
    gridDim = {grid, 1, 1};
    for (unsigned block = 0; block < grid && !failure; block++) {
        blockIdx = {block, 0, 0};
        run_block(order);
    }
    return failure;
}

}  // namespace cuda_on_cpu

#define __syncthreads() cuda_on_cpu::barrier(cuda_on_cpu::AT_BLOCK, __LINE__)

static inline unsigned __shfl_xor_sync(unsigned, unsigned value, int lanes) {
    unsigned me = threadIdx.x;
    cuda_on_cpu::exchanged[me] = value;
    cuda_on_cpu::barrier(cuda_on_cpu::AT_WARP, 0);
    unsigned other = cuda_on_cpu::exchanged[me ^ lanes];
    cuda_on_cpu::barrier(cuda_on_cpu::AT_WARP, 1);
    return other;
}

// What the compiler calls where the text does what is undefined, see OPTIONS in device.py.
#define CUDA_ON_CPU_UNDEFINED(name, message) \
    extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_##name() { cuda_on_cpu::fail(message); }
CUDA_ON_CPU_UNDEFINED(type_mismatch_v1, "an access is not aligned")
CUDA_ON_CPU_UNDEFINED(out_of_bounds, "an index is out of bounds")
CUDA_ON_CPU_UNDEFINED(shift_out_of_bounds, "a shift is undefined")
CUDA_ON_CPU_UNDEFINED(add_overflow, "a sum does not fit")
CUDA_ON_CPU_UNDEFINED(sub_overflow, "a difference does not fit")
CUDA_ON_CPU_UNDEFINED(mul_overflow, "a product does not fit")
CUDA_ON_CPU_UNDEFINED(negate_overflow, "a negative does not fit")
CUDA_ON_CPU_UNDEFINED(divrem_overflow, "a division is undefined")
CUDA_ON_CPU_UNDEFINED(float_cast_overflow, "a float does not fit an integer")
