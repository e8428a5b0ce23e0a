#ifndef SP_FEATURES_H
#define SP_FEATURES_H
/* What a network sees in pictures, to measure distances in: an ONNX model, such as Inception or the image part of CLIP,
 * run by ONNX Runtime on the processor. In a build without that library sp_features_open is SP_EUNSUPPORTED.
 *
 *     sp_features_options options = {.model = "inception.onnx", .to = {.mean = ..., .deviation = ...}};
 *     SP_TRY(sp_features_open(&features, &options, err));
 *     size_t n = sp_features_count(features);
 *     SP_TRY(sp_features_see(features, rgb, 64, 64, out, err));   // out [n]
 *     sp_features_close(features);
 *
 * The model has one input, float32 [1 or free, 3, height, width], which sp_resample fills. Its first output, float32,
 * holds the features, in whatever shape. */
#include "eval/resample.h"

typedef struct sp_features sp_features;

typedef struct sp_features_options {
    const char *model; /* file, borrowed until close */
    sp_raster to;      /* the model says width and height */
    int threads;       /* 0: one a core */
} sp_features_options;

/* Loads the model and tries it. SP_EFORMAT when the file is missing or is no such model, SP_EUNSUPPORTED when the
 * library lacks one of its operations. *features is NULL after a failure. */
SP_CHECK sp_status sp_features_open(sp_features **features, const sp_features_options *options, sp_error *err);
void sp_features_close(sp_features *features);

/* Features of a picture, and the size that the model takes pictures in. */
size_t sp_features_count(const sp_features *features);
const sp_raster *sp_features_raster(const sp_features *features);

/* rgb [height, width, 3]; out [sp_features_count]. SP_EFORMAT when the model fails or gives what is not a number. */
SP_CHECK sp_status sp_features_see(sp_features *features, const uint8_t *rgb, size_t width, size_t height, float *out,
                                   sp_error *err);

#endif
