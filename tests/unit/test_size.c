#include "support.h"

#include "base/size.h"

static void products_stop_at_the_edge(void **state)
{
    (void)state;
    size_t out = 7;
    assert_true(sp_size_mul(SIZE_MAX / 2, 2, &out));
    assert_true(out == SIZE_MAX - 1);
    assert_false(sp_size_mul(SIZE_MAX / 2 + 1, 2, &out));
    assert_true(sp_size_mul(0, SIZE_MAX, &out));
    assert_true(out == 0);
    assert_true(sp_size_add(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_false(sp_size_add(SIZE_MAX, 1, &out));
}

static void product_of_four_overflows_wherever_the_large_factor_is(void **state)
{
    (void)state;
    size_t out = 0;
    SP_TEST_OK(sp_size_product(&out, err, "KV cache", 3, 5, 7, 11));
    assert_true(out == 1155);
    const size_t large = (size_t)1 << 62;
    for (int at = 0; at < 4; at++) {
        size_t factor[4] = {1, 1, 1, 1};
        factor[at] = large;
        SP_TEST_OK(sp_size_product(&out, err, "KV cache", factor[0], factor[1], factor[2], factor[3]));
        assert_true(out == large);
        for (int other = 0; other < 4; other++) {
            if (other == at) continue;
            factor[other] = 4;
            sp_error err = {0};
            assert_int_equal(sp_size_product(&out, &err, "KV cache", factor[0], factor[1], factor[2], factor[3]),
                             SP_ENOMEM);
            assert_non_null(strstr(err.message, "KV cache"));
            assert_non_null(strstr(err.message, "4611686018427387904"));
            factor[other] = 1;
        }
    }
}

static void rounding_goes_up_to_the_step(void **state)
{
    (void)state;
    const size_t cases[][3] = {{0, 64, 0}, {1, 64, 64}, {63, 64, 64}, {64, 64, 64}, {65, 64, 128}, {7, 1, 7}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_true(sp_round_up(cases[i][0], cases[i][1]) == cases[i][2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_stop_at_the_edge),
        cmocka_unit_test(product_of_four_overflows_wherever_the_large_factor_is),
        cmocka_unit_test(rounding_goes_up_to_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
