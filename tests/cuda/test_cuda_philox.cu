/* Random numbers on the device: the known answers of Random123, the bits of the host, and those of cuRAND. */
#include "tests/cuda/device_test.cuh"

#include "acceptance/arithmetic.h"
#include "base/normal.h"

#if defined(SP_HAVE_CURAND)
extern "C" void sp_curand_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
#endif

enum { N = 4096 };

/* What is drawn from the i-th counter and key: words, a uniform number, noise. The same code for both. */
struct drawn {
    uint32_t word[4];
    double uniform;
    float gumbel[4], normal[8];
};

__host__ __device__ static drawn draw(uint32_t i)
{
    drawn out;
    uint64_t seed = 0x9E3779B97F4A7C15u * (i + 1);
    sp_philox_block block = sp_philox(seed, i, ~i, i % 7, i * i);
    for (int w = 0; w < 4; w++) out.word[w] = block.word[w];
    out.uniform = sp_uniform(seed, i, SP_DRAW_ACCEPT, i / 3, i % 5);
    sp_gumbel4(seed, i % 4, i, i % 1024, out.gumbel);
    sp_normals(seed, i % 4, i, SP_DRAW_CHAIN, i, 8, out.normal);
    return out;
}

__global__ static void draw_kernel(drawn *out, uint32_t n)
{
    sp_wait_launch();
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = draw(i);
}

__global__ static void known_kernel(const uint32_t *counter, const uint32_t *key, uint32_t *out)
{
    sp_wait_launch();
    uint64_t whole = static_cast<uint64_t>(key[1]) << 32 | key[0];
    sp_philox_block block = sp_philox(whole, counter[0], counter[1], counter[2], counter[3]);
    if (threadIdx.x < 4) out[threadIdx.x] = block.word[threadIdx.x];
}

static void known_answers(void **)
{
    const uint32_t ones = 0xFFFFFFFF;
    const struct { std::vector<uint32_t> counter, key, answer; } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}},
        {{ones, ones, ones, ones}, {ones, ones}, {0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}},
        {{0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344}, {0xA4093822, 0x299F31D0},
         {0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}}};
    for (const auto &known : cases) {
        sp_buffer<uint32_t> counter(known.counter), key(known.key), out(4);
        SP_TEST_CUDA(SP_LAUNCH(known_kernel, 1, 32, 0, nullptr, counter.at(), key.at(), out.at()));
        sp_test_equal("philox", out.read().data(), known.answer.data(), 4);
    }
}

static void bits_of_the_host(void **)
{
    sp_buffer<drawn> out(N);
    SP_TEST_CUDA(SP_LAUNCH(draw_kernel, N / 128, 128, 0, nullptr, out.at(), static_cast<uint32_t>(N)));
    std::vector<drawn> there = out.read();
    for (uint32_t i = 0; i < N; i++) {
        drawn here = draw(i);
        sp_test_equal("words", here.word, there[i].word, 4);
        sp_test_equal("uniform", &here.uniform, &there[i].uniform, 1);
        sp_test_equal("gumbel", here.gumbel, there[i].gumbel, 4);
        sp_test_equal("normal", here.normal, there[i].normal, 8);
    }
}

/* cuRAND's counter and key are ours: the seed's low word first. */
static void bits_of_curand(void **)
{
#if defined(SP_HAVE_CURAND)
    for (uint32_t i = 0; i < N; i++) {
        uint32_t counter[] = {i, ~i, i % 7, i * i}, key[2], out[4];
        uint64_t seed = 0x9E3779B97F4A7C15u * (i + 1);
        key[0] = static_cast<uint32_t>(seed);
        key[1] = static_cast<uint32_t>(seed >> 32);
        sp_curand_philox(counter, key, out);
        sp_test_equal("cuRAND", draw(i).word, out, 4);
    }
#else
    print_message("built without cuRAND\n");
    skip();
#endif
}

int main()
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_answers), cmocka_unit_test(bits_of_the_host),
                                       cmocka_unit_test(bits_of_curand)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
