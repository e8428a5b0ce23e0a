/* Times of the matrix product on a GPU, a Markdown table: what a pass over n rows reads, against what the device's
 * memory gives. One product follows another as in a pass; weights of other layers lie between two uses of the same, so
 * that none is read from a cache.
 *
 *     measure_gemm GB/S */
#include "tests/cuda/measure.cuh"

#include "kernels/cuda/ops.cuh"

static void measure(const sp_measure &m, cudaStream_t stream, size_t n, size_t k, double rate)
{
    static const size_t counts[] = {1, 2, 8, 16, 32, 64, 128};
    const size_t most = 128, bytes = sp_cuda_weight_bytes(n, k), cached = static_cast<size_t>(m.toy ? 0 : 256) << 20;
    size_t copies = cached / bytes + 2;
    unsigned char *tiles;
    uint16_t *x;
    float *sums;
    int slices = sp_cuda_slices(n, k);
    CHECK(cudaMalloc(&tiles, copies * bytes));
    CHECK(cudaMalloc(&x, most * k * sizeof *x));
    CHECK(cudaMalloc(&sums, static_cast<size_t>(slices) * most * n * sizeof *sums));
    std::vector<uint16_t> values = sp_quick_bf16(std::max(bytes / sizeof *x, most * k), 0.1f);
    for (size_t i = 0; i < copies; i++)
        CHECK(cudaMemcpy(tiles + i * bytes, values.data(), bytes, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(x, values.data(), most * k * sizeof *x, cudaMemcpyHostToDevice));
    for (size_t rows : counts) {
        if (m.toy && rows > 2) continue;
        int count = static_cast<int>(copies > 16 ? copies : 16 / copies * copies + copies);
        double us = sp_median_captured_us(m, stream, count, [&](int i) {
            sp_cuda_weight w = {tiles + static_cast<size_t>(i) % copies * bytes, n, k, slices};
            sp_partial y;
            CHECK(sp_cuda_gemm(stream, w, x, rows, sums, &y));
        });
        double reads = 1e-3 * static_cast<double>(bytes) / us;
        printf("| %zu x %zu | %zu | %.1f | %.0f | %.0f %% |\n", n, k, rows, us, reads, 100 * reads / rate);
    }
    CHECK(cudaFree(tiles));
    CHECK(cudaFree(x));
    CHECK(cudaFree(sums));
}

int main(int argc, char **argv)
{
    /* Products of a block of 7 B, of LlamaGen-XL and of the sample model. */
    static const size_t shapes[][2] = {{12288, 4096}, {4096, 4096}, {22016, 4096}, {4096, 11008}, {3840, 1280},
                                       {1280, 1280},  {6912, 1280}, {1280, 3456},  {768, 256}};
    static const size_t toys[][2] = {{32, 128}};
    sp_measure m = sp_measure_open("measure_gemm", argc, argv);
    double rate = sp_rate_argument(m, 0, "GB/s of the device's memory");
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    printf("| W | rows | us | GB/s of W | of the memory's |\n|---|---|---|---|---|\n");
    if (m.toy) measure(m, stream, toys[0][0], toys[0][1], rate);
    else for (const size_t *shape : shapes) measure(m, stream, shape[0], shape[1], rate);
    CHECK(cudaStreamDestroy(stream));
    return 0;
}
