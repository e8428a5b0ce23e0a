#include "base/arena.h"
#include "base/file.h"
#include "base/heat.h"
#include "eval/page.h"
#include "io/image.h"

static void add_image(sp_text *out, const void *png, size_t size, const char *style, const char *prompt,
                      const char *setting, const char *what)
{
    sp_text_format(out, "<img class=\"%s\" alt=\"", style);
    sp_text_html(out, prompt);
    sp_text_add(out, ", ");
    sp_text_html(out, setting);
    sp_text_add(out, what);
    sp_text_add(out, "\" src=\"data:image/png;base64,");
    sp_text_base64(out, png, size);
    sp_text_add(out, "\">");
}

static sp_status add_picture(const sp_page *page, size_t setting, size_t prompt, sp_text *out, sp_error *err)
{
    char path[SP_PATH_LIMIT];
    sp_layout_job job = page->pictures;
    job.setting = page->evaluation->settings[setting].name;
    SP_TRY(sp_layout_picture(&job, prompt, 0, path, err));
    sp_bytes bytes;
    SP_TRY(sp_file_read(path, (size_t)1 << 30, &bytes, err));
    add_image(out, bytes.data, bytes.size, "picture", job.prompts[prompt], job.setting, "");
    sp_bytes_free(&bytes);
    return SP_OK;
}

/* A pixel a token, dark early and bright late. */
static sp_status add_map(const sp_page *page, size_t setting, size_t prompt, sp_text *out, sp_error *err)
{
    const sp_evaluation *e = page->evaluation;
    const int32_t *passes = e->passes + (setting * e->n_shown + prompt) * e->n_tokens;
    int32_t last = 1;
    for (size_t i = 0; i < e->n_tokens; i++)
        if (passes[i] > last) last = passes[i];
    uint8_t *rgb = sp_alloc(e->n_tokens, 3);
    if (!rgb) return SP_FAIL(err, SP_ENOMEM, "no memory for a map; free some");
    for (size_t i = 0; i < e->n_tokens; i++)
        sp_heat(last > 1 && passes[i] > 1 ? (double)(passes[i] - 1) / (double)(last - 1) : 0, rgb + 3 * i);
    unsigned char *png = NULL;
    size_t size;
    sp_status status = sp_png_encode(rgb, page->columns, page->rows, NULL, 0, &png, &size, err);
    if (status == SP_OK) {
        add_image(out, png, size, "map", page->pictures.prompts[prompt], e->settings[setting].name,
                  ": pass in which each token was settled");
        sp_text_format(out, "<br>%d passes", (int)last);
    }
    sp_release(png);
    sp_release(rgb);
    return status;
}

sp_status sp_page_pictures(const sp_page *page, sp_text *out, sp_error *err)
{
    const sp_evaluation *e = page->evaluation;
    sp_text_add(out, "<div class=\"wide\"><table class=\"pictures\"><thead><tr><th scope=\"col\">prompt</th>");
    for (size_t s = 0; s < e->n_settings; s++) {
        sp_text_add(out, "<th scope=\"col\">");
        sp_text_html(out, e->settings[s].name);
        sp_text_format(out, "<br><small>%s</small></th>", sp_exactness_name(e->settings[s].exactness));
    }
    sp_text_add(out, "</tr></thead>\n<tbody>\n");
    for (size_t p = 0; p < e->n_shown; p++) {
        sp_text_add(out, "<tr><th scope=\"row\">");
        sp_text_html(out, page->pictures.prompts[p]);
        sp_text_add(out, "</th>");
        for (size_t s = 0; s < e->n_settings; s++) {
            sp_text_add(out, "<td>");
            SP_TRY(add_picture(page, s, p, out, err));
            SP_TRY(add_map(page, s, p, out, err));
            sp_text_add(out, "</td>\n");
        }
        sp_text_add(out, "</tr>\n");
    }
    sp_text_add(out, "</tbody></table></div>\n");
    return SP_OK;
}
