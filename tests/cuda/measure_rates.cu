/* What this GPU can do at most, which other figures are shares of: bytes a second copied and read, and products of bf16
 * matrices with float sums, by cuBLASLt. Rows of a table. */
#include "tests/cuda/measure.cuh"

#if defined(__CUDACC__) && !defined(SP_WITHOUT_BLAS)
#include <cublasLt.h>
#endif

enum { THREADS = 256, LOADS = 8 };

/* Every thread has LOADS loads of 16 bytes under way. The sum is written so that the loads are not left out. */
__global__ void read_kernel(const uint4 *from, size_t count, unsigned *out)
{
    sp_wait_launch();
    size_t each = static_cast<size_t>(gridDim.x) * THREADS, i = blockIdx.x * static_cast<size_t>(THREADS) + threadIdx.x;
    unsigned sum = 0;
    for (; i + (LOADS - 1) * each < count; i += LOADS * each) {
        uint4 v[LOADS];
        for (size_t j = 0; j < LOADS; j++) v[j] = sp_load_once(from + i + j * each);
        for (size_t j = 0; j < LOADS; j++) sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
    }
    if (sum == 1) *out = sum;
}

static void measure_memory(const sp_measure &m, cudaStream_t stream)
{
    const unsigned blocks = m.toy ? 2 : 132 * 8;
    const size_t bytes = sizeof(uint4) * LOADS * THREADS * blocks * (m.toy ? 1 : 64);
    unsigned char *a, *b;
    CHECK(cudaMalloc(&a, bytes));
    CHECK(cudaMalloc(&b, bytes));
    CHECK(cudaMemset(a, 0x5A, bytes));
    double us = sp_median_queued_us(
        m, stream, [&](int) { CHECK(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, stream)); });
    sp_row(m, "copy within the device, read and written", sp_no_goal, 2e-3 * static_cast<double>(bytes) / us, "GB/s");
    us = sp_median_queued_us(m, stream, [&](int) {
        CHECK(SP_LAUNCH(read_kernel, blocks, THREADS, 0, stream, reinterpret_cast<const uint4 *>(a),
                        bytes / sizeof(uint4), reinterpret_cast<unsigned *>(b)));
    });
    sp_row(m, "device memory read", sp_no_goal, 1e-3 * static_cast<double>(bytes) / us, "GB/s");
    CHECK(cudaFree(a));
    CHECK(cudaFree(b));
}

#if defined(__CUDACC__) && !defined(SP_WITHOUT_BLAS)

static void check_blas(cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS) return;
    fprintf(stderr, "%s: %s\n", what, cublasLtGetStatusString(status));
    exit(5);
}
#define CHECK_BLAS(call) check_blas((call), #call)

/* A square product, both operands with k innermost. */
static void measure_products(const sp_measure &m, cudaStream_t stream)
{
    const size_t n = 8192, workspace = static_cast<size_t>(64) << 20;
    const float one = 1, zero = 0;
    void *a, *b, *c, *space;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t layout;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t found;
    cublasOperation_t transposed = CUBLAS_OP_T;
    int n_found = 0;
    std::vector<uint16_t> values = sp_quick_bf16(n * n, 1);
    for (void **matrix : {&a, &b, &c}) CHECK(cudaMalloc(matrix, n * n * sizeof(uint16_t)));
    for (void *matrix : {a, b})
        CHECK(cudaMemcpy(matrix, values.data(), n * n * sizeof(uint16_t), cudaMemcpyHostToDevice));
    CHECK(cudaMalloc(&space, workspace));
    CHECK_BLAS(cublasLtCreate(&handle));
    CHECK_BLAS(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CHECK_BLAS(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed));
    CHECK_BLAS(cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, n, n, static_cast<int64_t>(n)));
    CHECK_BLAS(cublasLtMatmulPreferenceCreate(&preference));
    CHECK_BLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                                                    sizeof workspace));
    CHECK_BLAS(cublasLtMatmulAlgoGetHeuristic(handle, product, layout, layout, layout, layout, preference, 1, &found,
                                              &n_found));
    if (n_found == 0) check_blas(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic");
    double us = sp_median_queued_us(m, stream, [&](int) {
        CHECK_BLAS(cublasLtMatmul(handle, product, &one, a, layout, b, layout, &zero, c, layout, c, layout, &found.algo,
                                  space, workspace, stream));
    });
    sp_row(m, "bf16 products of 8192 x 8192 matrices by cuBLASLt", sp_no_goal,
           2e-6 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n) / us, "Tflop/s");
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtMatrixLayoutDestroy(layout);
    cublasLtMatmulDescDestroy(product);
    cublasLtDestroy(handle);
    for (void *memory : {a, b, c, space}) CHECK(cudaFree(memory));
}

#else

static void measure_products(const sp_measure &, cudaStream_t)
{
    sp_row_without("bf16 products of 8192 x 8192 matrices by cuBLASLt", "there is no cuBLASLt here");
}

#endif

int main(int argc, char **argv)
{
    sp_measure m = sp_measure_open("measure_rates", argc, argv);
    cudaStream_t stream;
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    measure_memory(m, stream);
    measure_products(m, stream);
    CHECK(cudaStreamDestroy(stream));
    return 0;
}
