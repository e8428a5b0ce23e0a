#include "support.h"

/* Known answers of Random123 for philox4x32-10. */
static void known_answers(void **state)
{
    (void)state;
    const struct {
        uint32_t counter[4], key[2], answer[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}},
        {{0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}, {0xFFFFFFFF, 0xFFFFFFFF},
         {0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}},
        {{0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344}, {0xA4093822, 0x299F31D0},
         {0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint32_t *c = cases[i].counter;
        uint64_t key = (uint64_t)cases[i].key[1] << 32 | cases[i].key[0];
        sp_philox_block block = sp_philox(key, c[0], c[1], c[2], c[3]);
        for (int w = 0; w < 4; w++) assert_int_equal(block.word[w], cases[i].answer[w]);
    }
}

/* Each of the 192 bits that go in changes about half of the 128 that come out: 64 +- 5.66; 8 sigma allowed. */
static void every_bit_of_key_and_counter_matters(void **state)
{
    (void)state;
    const uint32_t in[6] = {3, 141, 59, 26, 535, 897};
    sp_philox_block plain = sp_philox((uint64_t)in[5] << 32 | in[4], in[0], in[1], in[2], in[3]);
    for (int bit = 0; bit < 192; bit++) {
        uint32_t x[6];
        memcpy(x, in, sizeof x);
        x[bit / 32] ^= (uint32_t)1 << bit % 32;
        sp_philox_block block = sp_philox((uint64_t)x[5] << 32 | x[4], x[0], x[1], x[2], x[3]);
        int changed = 0;
        for (int w = 0; w < 4; w++) changed += __builtin_popcount(block.word[w] ^ plain.word[w]);
        assert_in_range(changed, 64 - 45, 64 + 45);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(every_bit_of_key_and_counter_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
