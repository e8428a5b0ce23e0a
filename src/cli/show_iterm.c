/* iTerm2's inline images: a whole file in base64 in one escape sequence, scaled to width by height cells. */
#include <stdio.h>

#include "base/arena.h"
#include "base/base64.h"
#include "cli/show.h"
#include "io/image.h"

sp_status sp_show_iterm(const sp_show_picture *picture, sp_error *err)
{
    unsigned char *png;
    size_t size;
    SP_TRY(sp_png_encode(picture->rgb, picture->width, picture->height, NULL, 0, &png, &size, err));
    char *text = sp_alloc(sp_base64_size(size), 1);
    sp_status status = SP_OK;
    if (text != NULL) {
        sp_base64(png, size, text);
        printf("\033]1337;File=inline=1;size=%zu;width=%zu;height=%zu:", size, picture->columns, picture->rows);
        fwrite(text, 1, sp_base64_size(size), stdout);
        putchar('\a');
    } else {
        status = SP_FAIL(err, SP_ENOMEM, "no memory to show a picture; leave out --show");
    }
    sp_release(text);
    sp_release(png);
    return status;
}
