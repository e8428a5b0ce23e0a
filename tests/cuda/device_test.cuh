#ifndef SP_DEVICE_TEST_CUH
#define SP_DEVICE_TEST_CUH
/* For tests of CUDA sources, on a GPU or emulated: device buffers between sentinels, repeatable numbers, comparisons.
 *
 *     sp_buffer<float> x(count);               // NaN bits on the device
 *     x.fill(host_values); ... x.read(out);    // the destructor fails the test if something wrote round it
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

extern "C" {
#include <cmocka.h>
#include "kernels/kernels.h"
}

#include "base/philox.h"
#include "kernels/cuda/cuda.cuh"

#define SP_TEST_CUDA(call)                                                                                   \
    do {                                                                                                     \
        cudaError_t test_error_ = (call);                                                                    \
        if (test_error_ != cudaSuccess) fail_msg("%s: %s", #call, cudaGetErrorString(test_error_));          \
    } while (0)

/* A value in [-1, 1): the i-th of a stream. */
static inline float sp_test_value(uint32_t stream, size_t i)
{
    sp_philox_block block = sp_philox(stream, static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), 99, 7);
    return static_cast<float>(static_cast<double>(block.word[0]) / 2147483648.0 - 1.0);
}

static inline std::vector<float> sp_test_values(size_t count, uint32_t stream)
{
    std::vector<float> out(count);
    for (size_t i = 0; i < count; i++) out[i] = sp_test_value(stream, i);
    return out;
}

static inline std::vector<uint16_t> sp_test_bf16(const std::vector<float> &x)
{
    std::vector<uint16_t> out(x.size());
    for (size_t i = 0; i < x.size(); i++) out[i] = sp_f32_to_bf16(x[i]);
    return out;
}

/* What bf16 keeps of x. */
static inline std::vector<float> sp_test_rounded(const std::vector<float> &x)
{
    std::vector<float> out(x.size());
    for (size_t i = 0; i < x.size(); i++) out[i] = sp_bf16_to_f32(sp_f32_to_bf16(x[i]));
    return out;
}

template <typename T> class sp_buffer {
#if defined(__CUDACC__)
    enum { GUARD = 256 };
#else
    enum { GUARD = 0 }; /* the emulator has its own, and stops reads too */
#endif
    unsigned char *memory_;
    size_t count_;

  public:
    explicit sp_buffer(size_t count) : memory_(nullptr), count_(count)
    {
        SP_TEST_CUDA(cudaMalloc(&memory_, count * sizeof(T) + 2 * GUARD));
        SP_TEST_CUDA(cudaMemset(memory_, 0xA5, count * sizeof(T) + 2 * GUARD));
        SP_TEST_CUDA(cudaMemset(memory_ + GUARD, 0xFF, count * sizeof(T)));
    }
    explicit sp_buffer(const std::vector<T> &values) : sp_buffer(values.size()) { fill(values); }
    sp_buffer(const sp_buffer &) = delete;
    sp_buffer &operator=(const sp_buffer &) = delete;
    ~sp_buffer()
    {
        unsigned char sentinel[GUARD + 1];
        for (int end = 0; end < 2; end++) {
            const unsigned char *at = end ? memory_ + GUARD + count_ * sizeof(T) : memory_;
            if (cudaMemcpy(sentinel, at, GUARD, cudaMemcpyDeviceToHost) != cudaSuccess) continue;
            for (size_t i = 0; i < GUARD; i++)
                if (sentinel[i] != 0xA5)
                    fail_msg("something wrote %s a buffer of %zu", end ? "after" : "before", count_);
        }
        cudaFree(memory_);
    }
    T *at(size_t i = 0) const { return reinterpret_cast<T *>(memory_ + GUARD) + i; }
    size_t count() const { return count_; }
    void fill(const std::vector<T> &values) const
    {
        SP_TEST_CUDA(cudaMemcpy(at(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    }
    std::vector<T> read() const
    {
        std::vector<T> out(count_);
        SP_TEST_CUDA(cudaMemcpy(out.data(), at(), count_ * sizeof(T), cudaMemcpyDeviceToHost));
        return out;
    }
};

static inline std::vector<float> sp_test_floats(const std::vector<uint16_t> &x)
{
    std::vector<float> out(x.size());
    for (size_t i = 0; i < x.size(); i++) out[i] = sp_bf16_to_f32(x[i]);
    return out;
}

/* Fails with the first element where |a - b| > bound(i) or just one is NaN. */
template <typename BOUND>
static inline void sp_test_close(const char *what, const std::vector<float> &a, const std::vector<float> &b,
                                 BOUND bound)
{
    for (size_t i = 0; i < a.size(); i++)
        if (!(fabsf(a[i] - b[i]) <= bound(i)))
            fail_msg("%s: element %zu is %.9g, expected %.9g within %.3g", what, i, static_cast<double>(a[i]),
                     static_cast<double>(b[i]), static_cast<double>(bound(i)));
}

template <typename T> static inline void sp_test_equal(const char *what, const T *a, const T *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0) fail_msg("%s: element %zu has other bits", what, i);
}

#endif
