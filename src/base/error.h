#ifndef SP_ERROR_H
#define SP_ERROR_H
/* One error type for the whole library. A fallible function returns sp_status and takes sp_error *err last:
 *
 *     sp_error err = {0};
 *     if (sp_file_read(path, limit, &bytes, &err) != SP_OK) fprintf(stderr, "specular: %s\n", err.message);
 *
 * The first failure fills err; later ones leave it as it is, because they are consequences. err may be NULL.
 * A message is one line: what, what was found, what was expected, what to do next. */
#include <stddef.h>

typedef enum {
    SP_OK = 0,
    SP_EARG,         /* an argument or option is out of range: exit 2 */
    SP_EFORMAT,      /* an input file is missing, unreadable or malformed: exit 3 */
    SP_EOUTPUT,      /* writing failed: exit 4 */
    SP_EDEVICE,      /* a device failed or has no memory: exit 5 */
    SP_ENOMEM,       /* host memory: exit 6 */
    SP_EUNSUPPORTED, /* a well-formed model or feature that this build does not know: exit 7 */
    SP_ECANCELLED,   /* a progress callback asked to stop */
    SP_EBUG          /* an internal error: exit 70 */
} sp_status;

typedef struct sp_error {
    sp_status status;
    int system_errno; /* errno of the failing call, or 0 */
    const char *file; /* where it was raised; static storage */
    int line;
    char message[512];
} sp_error;

#if defined(__GNUC__)
#define SP_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define SP_CHECK __attribute__((warn_unused_result))
#else
#define SP_PRINTF(text, first)
#define SP_CHECK
#endif

/* Fills err unless it already holds a failure; returns status. */
sp_status sp_error_set(sp_error *err, sp_status status, int system_errno, const char *file, int line,
                       const char *format, ...) SP_PRINTF(6, 7);

/* "bad argument", "host memory" and so on. */
const char *sp_status_text(sp_status status);

#define SP_FAIL(err, status, ...) sp_error_set((err), (status), 0, __FILE__, __LINE__, __VA_ARGS__)
#define SP_FAIL_ERRNO(err, status, number, ...) \
    sp_error_set((err), (status), (number), __FILE__, __LINE__, __VA_ARGS__)

/* SP_TRY returns on failure; SP_GO needs `sp_status status` and a label `out:` that frees. */
#define SP_TRY(call)                         \
    do {                                     \
        sp_status try_status_ = (call);      \
        if (try_status_ != SP_OK) return try_status_; \
    } while (0)
#define SP_GO(call)                          \
    do {                                     \
        status = (call);                     \
        if (status != SP_OK) goto out;       \
    } while (0)

#endif
