/* Times of the matrix product on a GPU, a Markdown table: what a pass over n rows reads, against a copy within the
 * device. Weights of other layers lie between two uses of the same, so that none is read from a cache. */
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <vector>

#include "kernels/cuda/ops.cuh"

enum { REPEATS = 50 };

static void check(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return;
    fprintf(stderr, "measure_gemm: %s: %s\n", what, cudaGetErrorString(error));
    exit(5);
}
#define CHECK(call) check((call), #call)

/* Median microseconds of what a call queues. */
template <typename CALL> static float median_us(cudaStream_t stream, CALL call)
{
    cudaEvent_t start, end;
    std::vector<float> us;
    CHECK(cudaEventCreateWithFlags(&start, cudaEventDefault));
    CHECK(cudaEventCreateWithFlags(&end, cudaEventDefault));
    for (int i = 0; i < REPEATS + 5; i++) {
        float ms;
        CHECK(cudaEventRecord(start, stream));
        call(i);
        CHECK(cudaEventRecord(end, stream));
        CHECK(cudaEventSynchronize(end));
        CHECK(cudaEventElapsedTime(&ms, start, end));
        if (i >= 5) us.push_back(1000 * ms);
    }
    CHECK(cudaEventDestroy(start));
    CHECK(cudaEventDestroy(end));
    std::sort(us.begin(), us.end());
    return us[REPEATS / 2];
}

/* Bytes a microsecond of a copy, each read and written once. */
static double copy_rate(cudaStream_t stream)
{
    const size_t bytes = static_cast<size_t>(1) << 30;
    unsigned char *a, *b;
    CHECK(cudaMalloc(&a, bytes));
    CHECK(cudaMalloc(&b, bytes));
    CHECK(cudaMemset(a, 1, bytes));
    float us = median_us(
        stream, [&](int) { CHECK(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, stream)); });
    CHECK(cudaFree(a));
    CHECK(cudaFree(b));
    return 2.0 * static_cast<double>(bytes) / static_cast<double>(us);
}

static void measure(cudaStream_t stream, size_t n, size_t k, double rate)
{
    static const size_t counts[] = {1, 2, 8, 16, 32, 64, 128};
    const size_t most = 128, bytes = sp_cuda_weight_bytes(n, k);
    size_t copies = (static_cast<size_t>(256) << 20) / bytes + 2; /* more than the caches hold */
    unsigned char *tiles;
    uint16_t *x;
    float *sums;
    int slices = sp_cuda_slices(n, k);
    CHECK(cudaMalloc(&tiles, copies * bytes));
    CHECK(cudaMalloc(&x, most * k * sizeof *x));
    CHECK(cudaMalloc(&sums, static_cast<size_t>(slices) * most * n * sizeof *sums));
    CHECK(cudaMemset(tiles, 0x3C, copies * bytes));
    CHECK(cudaMemset(x, 0x3D, most * k * sizeof *x));
    for (size_t rows : counts) {
        float us = median_us(stream, [&](int i) {
            sp_cuda_weight w = {tiles + static_cast<size_t>(i) % copies * bytes, n, k, slices};
            sp_partial y;
            CHECK(sp_cuda_gemm(stream, w, x, rows, sums, &y));
        });
        double reads = static_cast<double>(bytes) / static_cast<double>(us);
        printf("| %zu x %zu | %zu | %.1f | %.0f | %.0f %% |\n", n, k, rows, static_cast<double>(us), reads / 1000,
               100 * reads / rate);
    }
    CHECK(cudaFree(tiles));
    CHECK(cudaFree(x));
    CHECK(cudaFree(sums));
}

int main()
{
    /* Products of a block of 7 B, of LlamaGen-XL and of the sample model. */
    static const size_t shapes[][2] = {{12288, 4096}, {4096, 4096}, {22016, 4096}, {4096, 11008}, {3840, 1280},
                                       {1280, 1280},  {6912, 1280}, {1280, 3456},  {768, 256}};
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    double rate = copy_rate(stream);
    printf("Copy within the device: %.0f GB/s, read and written.\n\n", rate / 1000);
    printf("| W | rows | us | GB/s of W | of the copy |\n|---|---|---|---|---|\n");
    for (const size_t *shape : shapes) measure(stream, shape[0], shape[1], rate);
    return 0;
}
