/* Kitty's graphics protocol: a PNG (f=100) sent and placed (a=T) over c by r cells, without answers (q=2), in chunks of
 * at most 4096 characters; m=1 says that more follow. w and h would crop the picture instead of scaling it. */
#include <stdio.h>

#include "base/arena.h"
#include "base/base64.h"
#include "cli/show.h"
#include "io/image.h"

enum { CHUNK_BYTES = 3072 };

sp_status sp_show_kitty(const sp_show_picture *picture, sp_error *err)
{
    unsigned char *png;
    size_t size;
    SP_TRY(sp_png_encode(picture->rgb, picture->width, picture->height, NULL, 0, &png, &size, err));
    char text[CHUNK_BYTES / 3 * 4];
    for (size_t i = 0; i < size; i += CHUNK_BYTES) {
        size_t part = size - i < CHUNK_BYTES ? size - i : CHUNK_BYTES;
        sp_base64(png + i, part, text);
        if (i == 0)
            printf("\033_Ga=T,f=100,q=2,c=%zu,r=%zu,m=%d;", picture->columns, picture->rows, part < size);
        else
            printf("\033_Gm=%d;", i + part < size);
        fwrite(text, 1, sp_base64_size(part), stdout);
        fputs("\033\\", stdout);
    }
    sp_release(png);
    return SP_OK;
}
