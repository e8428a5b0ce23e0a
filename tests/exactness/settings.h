#ifndef SP_SETTINGS_H
#define SP_SETTINGS_H
/* Settings that take every way through the decode loop over the enumerable model: of the rules that race, and of those
 * that record the laws of their drafts. Those with guesses come last: a device has no form for them. */
#include "trial.h"

static const setting race_settings[] = {
    {"ar", "ar", "uniform", 1, 1, 1, 0, 1},
    {"ar guided", "ar", "uniform", 1, 2.5f, 1, 0, 1},
    {"ar top-k 3", "ar", "uniform", 1, 1, 0.8f, 3, 1},
    {"ar top-p", "ar", "uniform", 1, 1, 1, 0, 0.8f},
    {"ar both", "ar", "uniform", 1, 1, 1.3f, 3, 0.9f},
    {"pathwise uniform 4", "pathwise", "uniform", 4, 1, 1, 0, 1},
    {"pathwise left 5", "pathwise", "left", 5, 1, 1, 0, 1},
    {"pathwise above 3", "pathwise", "above", 3, 1, 1, 0, 1},
    {"pathwise 2", "pathwise", "left", 2, 1, 1, 0, 1},
    {"pathwise auto", "pathwise", "left", 0, 1, 1, 0, 1},
    {"pathwise guided", "pathwise", "uniform", 4, 2.5f, 0.7f, 0, 1},
    {"pathwise top-k 3", "pathwise", "left", 4, 1, 1, 3, 1},
    {"pathwise both", "pathwise", "left", 5, 1.5f, 1, 3, 0.9f},
};

static const setting recorded_settings[] = {
    {"sjd uniform 4", "sjd", "uniform", 4, 1, 1, 0, 1},
    {"sjd left 5", "sjd", "left", 5, 1, 1, 0, 1},
    {"sjd above 3", "sjd", "above", 3, 1, 1, 0, 1},
    {"sjd 2", "sjd", "uniform", 2, 1, 1, 0, 1},
    {"sjd 1", "sjd", "left", 1, 1, 1, 0, 1},
    {"sjd auto", "sjd", "left", 0, 1, 1, 0, 1},
    {"sjd guided", "sjd", "uniform", 4, 2.5f, 0.7f, 0, 1},
    {"sjd top-k 3", "sjd", "uniform", 4, 1, 1, 3, 1},
    {"sjd top-p", "sjd", "left", 4, 1, 0.6f, 0, 0.8f},
    {"coupled uniform 4", "coupled", "uniform", 4, 1, 1, 0, 1},
    {"coupled left 5", "coupled", "left", 5, 1, 1, 0, 1},
    {"coupled above 3", "coupled", "above", 3, 1, 1, 0, 1},
    {"coupled 2", "coupled", "left", 2, 1, 1, 0, 1},
    {"coupled 1", "coupled", "left", 1, 1, 1, 0, 1},
    {"coupled auto", "coupled", "uniform", 0, 1, 1, 0, 1},
    {"coupled guided", "coupled", "uniform", 4, 2.5f, 0.7f, 0, 1},
    {"coupled top-k 3", "coupled", "left", 5, 1, 0.8f, 3, 1},
    {"coupled both", "coupled", "uniform", 5, 1.5f, 1, 3, 0.9f},
    {"coupled 4, 2 guesses", "coupled", "uniform", 4, 1, 1, 0, 1, 2},
    {"coupled 5, 3 guesses", "coupled", "left", 5, 1, 1, 0, 1, 3},
    {"coupled 3, 4 guesses", "coupled", "uniform", 3, 1, 0.6f, 0, 1, 4},
    {"coupled 2, 4 guesses", "coupled", "left", 2, 2.5f, 1, 0, 1, 4},
    {"guesses within top-k", "coupled", "uniform", 5, 1, 1, 3, 0.9f, 3},
    {"guesses auto", "coupled", "uniform", 0, 1, 1, 0, 1, 3},
};

enum {
    RACE_SETTINGS = sizeof race_settings / sizeof *race_settings,
    RECORDED_SETTINGS = sizeof recorded_settings / sizeof *recorded_settings
};

#endif
