#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

sp_status sp_error_set(sp_error *err, sp_status status, int system_errno, const char *file, int line,
                       const char *format, ...)
{
    if (err == NULL || err->status != SP_OK) return status;
    err->status = status;
    err->system_errno = system_errno;
    err->file = file;
    err->line = line;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    /* File names and JSON keys come from outside: keep the message one line. */
    for (char *c = err->message; *c; c++)
        if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    return status;
}

const char *sp_status_text(sp_status status)
{
    switch (status) {
    case SP_OK: return "done";
    case SP_EARG: return "bad argument";
    case SP_EFORMAT: return "bad input file";
    case SP_EOUTPUT: return "output failed";
    case SP_EDEVICE: return "device failed";
    case SP_ENOMEM: return "out of host memory";
    case SP_EUNSUPPORTED: return "unsupported";
    case SP_ECANCELLED: return "interrupted";
    case SP_EBUG: return "internal error";
    }
    return "unknown status";
}
