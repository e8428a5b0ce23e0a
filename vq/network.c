#include "vq/network.h"

#include <string.h>

sp_status sp_vq_check(const sp_codec_config *c, sp_error *err)
{
    const struct { const char *name; size_t value, most; } limits[] = {
        {"rows", c->rows, 1024}, {"columns", c->columns, 1024}, {"channels", c->channels, 4096},
        {"z_channels", c->z_channels, 4096}, {"code_dim", c->code_dim, 4096}, {"groups", c->groups, 1024},
        {"blocks_per_level", c->blocks_per_level, 16},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (limits[i].value < 1 || limits[i].value > limits[i].most)
            return SP_FAIL(err, SP_EFORMAT, "vq: %s is %zu: expected 1 to %zu", limits[i].name, limits[i].value,
                           limits[i].most);
    for (size_t i = 0; i < c->n_levels; i++) {
        size_t mult = c->channel_mult[i];
        if (mult < 1 || mult > 64)
            return SP_FAIL(err, SP_EFORMAT, "vq: channel_mult %zu is %zu: expected 1 to 64", i, mult);
        if (c->channels * mult % c->groups != 0)
            return SP_FAIL(err, SP_EFORMAT, "vq: level %zu has %zu channels: expected a multiple of the %zu groups",
                           i, c->channels * mult, c->groups);
    }
    return SP_OK;
}

sp_status sp_vq_network_plan(sp_vq_network *net, const sp_codec_config *c, sp_vq_side side, sp_error *err)
{
    net->n = sp_vq_plan(c, side, NULL);
    net->layers = sp_alloc(net->n, sizeof *net->layers);
    if (!net->layers) return SP_FAIL(err, SP_ENOMEM, "vq: no memory for the list of its layers");
    sp_vq_plan(c, side, net->layers);
    return SP_OK;
}

void sp_vq_network_take(sp_vq_network *net, sp_arena *arena)
{
    for (size_t i = 0; i < net->n; i++) sp_vq_layer_take(&net->layers[i], arena);
}

sp_status sp_vq_network_load(sp_vq_loader *loader, sp_vq_network *net, sp_error *err)
{
    for (size_t i = 0; i < net->n; i++) SP_TRY(sp_vq_layer_load(loader, &net->layers[i], err));
    return SP_OK;
}

void sp_vq_network_free(sp_vq_network *net)
{
    for (size_t i = 0; net->layers && i < net->n; i++) sp_vq_layer_free(&net->layers[i]);
    sp_release(net->layers);
}

sp_status sp_vq_network_fit(const sp_vq_network *net, const sp_vq_run *run, size_t *floats, size_t *scratch,
                            sp_error *err)
{
    for (size_t i = 0; i < net->n; i++) {
        size_t own, bytes = sp_vq_layer_scratch(run, &net->layers[i]);
        SP_TRY(sp_vq_layer_floats(&net->layers[i], &own, err));
        if (own > *floats) *floats = own;
        if (bytes > *scratch) *scratch = bytes;
    }
    return SP_OK;
}

sp_status sp_vq_run_open(sp_vq_run *run, sp_arena *arena, size_t floats, size_t scratch, sp_error *err)
{
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < 3; i++) run->buffer[i] = sp_arena_take(arena, floats, sizeof(float));
        run->scratch = sp_arena_take(arena, scratch, 1);
        if (pass == 0) SP_TRY(sp_arena_commit(arena, "codec activations", err));
    }
    return SP_OK;
}

void sp_vq_network_run(const sp_vq_network *net, sp_vq_run *run)
{
    for (size_t i = 0; i < net->n; i++) sp_vq_layer_run(run, &net->layers[i]);
}

sp_status sp_vq_network_read(const sp_vq_network *net, sp_vq_run *run, const float *pixels, sp_error *err)
{
    if (net->n == 0)
        return SP_FAIL(err, SP_EUNSUPPORTED, "vq: this checkpoint cannot encode: it has no 'encoder.conv_in.weight'");
    sp_plane in = net->layers[0].in;
    memcpy(run->buffer[0], pixels, in.height * in.width * in.channels * sizeof *pixels);
    sp_vq_network_run(net, run);
    return SP_OK;
}

static sp_plane output_of(const sp_vq_network *net) { return net->layers[net->n - 1].out; }

void sp_vq_network_output(const sp_vq_network *net, const sp_vq_run *run, float *out)
{
    sp_plane plane = output_of(net);
    memcpy(out, run->buffer[0], plane.height * plane.width * plane.channels * sizeof *out);
}

void sp_vq_network_average(const sp_vq_network *net, const sp_vq_run *run, float *out)
{
    sp_plane plane = output_of(net);
    size_t positions = plane.height * plane.width;
    for (size_t c = 0; c < plane.channels; c++) {
        double sum = 0;
        for (size_t i = 0; i < positions; i++) sum += (double)run->buffer[0][i * plane.channels + c];
        out[c] = (float)(sum / (double)positions);
    }
}
