#include <string.h>

#include "base/arena.h"
#include "cli/evaluate.h"
#include "cli/interrupt.h"
#include "cli/number.h"
#include "cli/setup.h"
#include "io/buffer.h"

static sp_status no_memory(sp_error *err) { return SP_FAIL(err, SP_ENOMEM, "no memory for features; free some"); }

/* "0.5", or "0.48,0.46,0.41" for red, green and blue. */
static sp_status read_colours(const char *name, const char *text, double least, float out[3], sp_error *err)
{
    const char *at = text;
    for (size_t i = 0; i < 3; i++) {
        char word[32];
        double value;
        size_t length = strcspn(at, ",");
        bool last = at[length] == '\0', whole = length < sizeof word;
        if (whole) memcpy(word, at, length);
        word[whole ? length : 0] = '\0';
        if (!sp_number_real(word, least, 1000, &value) || last != (i == 2 || !strchr(text, ',')))
            return SP_FAIL(err, SP_EARG, "--%s: '%.80s' is not one number from %g to 1000, or three separated by "
                           "commas", name, text, least);
        out[i] = (float)value;
        if (!last) at += length + 1;
    }
    return SP_OK;
}

sp_status sp_evaluate_load_features(sp_evaluate *run, sp_error *err)
{
    const sp_options *options = run->options;
    sp_features_options wanted = {.model = options->features, .threads = (int)options->threads};
    if (options->features == NULL) {
        bool mean = options->given[SP_OPTION_feature_mean];
        if (mean || options->given[SP_OPTION_feature_deviation])
            return SP_FAIL(err, SP_EARG, "--feature-%s: no --features; name the network", mean ? "mean" : "deviation");
        return SP_OK;
    }
    SP_TRY(read_colours("feature-mean", options->feature_mean, -1000, wanted.to.mean, err));
    SP_TRY(read_colours("feature-deviation", options->feature_deviation, 0.0001, wanted.to.deviation, err));
    return sp_features_open(&run->features, &wanted, err);
}

/* One picture of FOLDER/SETTING to its place among the features. */
static sp_status see_picture(sp_evaluate *run, size_t setting, size_t prompt, size_t image, sp_error *err)
{
    const sp_evaluation *e = &run->evaluation;
    sp_layout_job job = sp_evaluate_job(run);
    char path[SP_PATH_LIMIT];
    uint8_t *rgb;
    if (sp_interrupt_signal() != 0) return SP_FAIL(err, SP_ECANCELLED, "interrupted");
    job.setting = run->settings.items[setting].name;
    SP_TRY(sp_layout_picture(&job, prompt, image, path, err));
    SP_TRY(sp_layout_read(path, job.width, job.height, &rgb, err));
    size_t place = (setting * e->n_prompts + prompt) * e->n_images + image, n = run->network.n_features;
    sp_status status = sp_features_see(run->features, rgb, job.width, job.height, run->network.features + place * n,
                                       err);
    sp_release(rgb);
    return status;
}

static sp_status see_drawn(sp_evaluate *run, sp_error *err)
{
    const sp_evaluation *e = &run->evaluation;
    size_t pictures = e->n_settings * e->n_prompts * e->n_images, n = sp_features_count(run->features);
    run->network.features = sp_alloc(pictures, n * sizeof *run->network.features);
    if (run->network.features == NULL) return no_memory(err);
    run->network.n_features = n;
    sp_setup_note(run->options, "%zu features of %zu pictures by %s", n, pictures, run->options->features);
    for (size_t s = 0; s < e->n_settings; s++)
        for (size_t p = 0; p < e->n_prompts; p++)
            for (size_t i = 0; i < e->n_images; i++) SP_TRY(see_picture(run, s, p, i, err));
    return SP_OK;
}

typedef struct gathering {
    sp_evaluate *run;
    sp_session *session;
    sp_buffer encoder, network;
    float *room; /* of the wider of the two */
    size_t count;
} gathering;

static sp_status append(sp_buffer *to, const float *features, size_t n, sp_error *err)
{
    return sp_buffer_append(to, features, n * sizeof *features) ? SP_OK : no_memory(err);
}

static sp_status see_reference(gathering *g, const uint8_t *rgb, sp_error *err)
{
    const sp_model_info *info = &g->run->info;
    if (info->n_features > 0) {
        SP_TRY(sp_pixels_to_features(g->session, rgb, g->room, err));
        SP_TRY(append(&g->encoder, g->room, info->n_features, err));
    }
    if (g->run->features == NULL) return SP_OK;
    SP_TRY(sp_features_see(g->run->features, rgb, info->width, info->height, g->room, err));
    return append(&g->network, g->room, g->run->network.n_features, err);
}

static sp_status visit_reference(void *user, const char *name, sp_error *err)
{
    gathering *g = user;
    const sp_model_info *info = &g->run->info;
    char path[SP_PATH_LIMIT];
    const char *dot = strrchr(name, '.');
    uint8_t *rgb;
    if (dot == NULL || strcmp(dot, ".png") != 0) return SP_OK;
    if (sp_interrupt_signal() != 0) return SP_FAIL(err, SP_ECANCELLED, "interrupted");
    SP_TRY(sp_layout_path(path, err, "%s/%s", g->run->options->reference, name));
    SP_TRY(sp_layout_read(path, info->width, info->height, &rgb, err));
    sp_status status = see_reference(g, rgb, err);
    sp_release(rgb);
    g->count += status == SP_OK;
    return status;
}

static sp_status read_reference(sp_evaluate *run, sp_error *err)
{
    const char *folder = run->options->reference;
    size_t n = run->info.n_features > run->network.n_features ? run->info.n_features : run->network.n_features;
    if (folder == NULL) return SP_OK;
    if (n == 0)
        return SP_FAIL(err, SP_EUNSUPPORTED, "--reference: this checkpoint has no encoder to compare pictures with; "
                       "give a network with --features");
    gathering g = {.run = run, .room = sp_alloc(n, sizeof *g.room)};
    sp_status status = g.room != NULL ? sp_session_open(&g.session, run->engine, err) : no_memory(err);
    if (status == SP_OK) status = sp_layout_each(folder, visit_reference, &g, err);
    sp_session_close(g.session);
    sp_release(g.room);
    run->reference = (sp_reference){(float *)(void *)g.encoder.data, run->info.n_features > 0 ? g.count : 0};
    run->network.reference = (sp_reference){(float *)(void *)g.network.data, run->features != NULL ? g.count : 0};
    if (status == SP_OK && g.count == 0)
        return SP_FAIL(err, SP_EFORMAT, "%s: no .png files; name a folder of pictures", folder);
    return status;
}

sp_status sp_evaluate_features(sp_evaluate *run, sp_error *err)
{
    if (run->features != NULL) SP_TRY(see_drawn(run, err));
    return read_reference(run, err);
}

static json_t *colours(const float values[3])
{
    return json_pack("[fff]", sp_number_shortest(values[0]), sp_number_shortest(values[1]),
                     sp_number_shortest(values[2]));
}

json_t *sp_evaluate_features_json(const sp_evaluate *run)
{
    if (run->features == NULL) return NULL;
    const sp_raster *to = sp_features_raster(run->features);
    return json_pack("{ss sI sI sI so so}", "model", run->options->features, "count",
                     (json_int_t)run->network.n_features, "width", (json_int_t)to->width, "height",
                     (json_int_t)to->height, "mean", colours(to->mean), "deviation", colours(to->deviation));
}
