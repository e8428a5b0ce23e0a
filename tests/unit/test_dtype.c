#include "support.h"

#include "base/dtype.h"

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Every bf16 is a float, and the nearest bf16 to that float is itself. */
static void bf16_goes_round(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = sp_bf16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(x), h << 16);
        if (isnan(x))
            assert_true(isnan(sp_bf16_to_f32(sp_f32_to_bf16(x))));
        else
            assert_int_equal(sp_f32_to_bf16(x), h);
    }
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    const uint32_t cases[][2] = {
        {0x3F808000, 0x3F80}, {0x3F808001, 0x3F81}, {0x3F818000, 0x3F82}, {0x3F817FFF, 0x3F81}, {0xBF818000, 0xBF82},
        {0x7F7F7FFF, 0x7F7F}, {0x7F7F8000, 0x7F80}, {0x7F800000, 0x7F80}, {0xFF800000, 0xFF80}, {0x00008000, 0x0000},
        {0x00008001, 0x0001}, {0x80000000, 0x8000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float x;
        memcpy(&x, &cases[i][0], sizeof x);
        assert_int_equal(sp_f32_to_bf16(x), cases[i][1]);
    }
    const uint32_t nans[] = {0x7F800001, 0xFFC00000, 0x7FFFFFFF};
    for (size_t i = 0; i < sizeof nans / sizeof nans[0]; i++) {
        float x;
        memcpy(&x, &nans[i], sizeof x);
        assert_true(isnan(sp_bf16_to_f32(sp_f32_to_bf16(x))));
    }
}

/* IEEE 754 binary16: sign, 5 bits of exponent with bias 15, 10 of fraction. */
static void f16_has_its_value(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        int exponent = (int)(h >> 10 & 31), fraction = (int)(h & 1023);
        float x = sp_f16_to_f32((uint16_t)h);
        double size = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        if (exponent == 31 && fraction)
            assert_true(isnan(x));
        else
            assert_true((double)x == (h >> 15 ? -1 : 1) * (exponent == 31 ? (double)INFINITY : size));
        assert_int_equal(bits_of(x) >> 31, h >> 15);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_goes_round),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(f16_has_its_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
