#ifndef SP_HEAT_H
#define SP_HEAT_H
/* A scale of colours for pictures of numbers. */
#include <stdint.h>

/* part in [0, 1]. Linear between five colours whose lightness grows, so that the order survives greyscale and colour
 * blindness. */
static inline void sp_heat(double part, uint8_t colour[3])
{
    static const double stops[5][3] = {{20, 16, 64}, {70, 40, 140}, {190, 55, 110}, {245, 135, 50}, {255, 240, 150}};
    double at = part * 4;
    int low = at >= 4 ? 3 : (int)at;
    for (int c = 0; c < 3; c++)
        colour[c] = (uint8_t)(stops[low][c] + (stops[low + 1][c] - stops[low][c]) * (at - low) + 0.5);
}

#endif
