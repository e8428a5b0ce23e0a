#include "eval/features.h"

sp_status sp_features_open(sp_features **features, const sp_features_options *options, sp_error *err)
{
    *features = NULL;
    return SP_FAIL(err, SP_EUNSUPPORTED, "%s: this build has no ONNX Runtime to run it: build where that library is "
                   "found (-DONNXRUNTIME_ROOT=DIR), or do without --features", options->model);
}

void sp_features_close(sp_features *features) { (void)features; }

size_t sp_features_count(const sp_features *features) { return (void)features, 0; }

const sp_raster *sp_features_raster(const sp_features *features) { return (void)features, NULL; }

sp_status sp_features_see(sp_features *features, const uint8_t *rgb, size_t width, size_t height, float *out,
                          sp_error *err)
{
    (void)features, (void)rgb, (void)width, (void)height, (void)out;
    return SP_FAIL(err, SP_EUNSUPPORTED, "this build has no ONNX Runtime");
}
