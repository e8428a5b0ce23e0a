#define _GNU_SOURCE
#include "device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char file_name[] = "libspecular-cuda.so";

/* A path made of the folder of this very code and what is given. */
static void *open_beside(const char *between)
{
    Dl_info here;
    char path[4096];
    if (!dladdr((const void *)file_name, &here) || !here.dli_fname) return NULL;
    const char *slash = strrchr(here.dli_fname, '/');
    int folder = slash ? (int)(slash - here.dli_fname) : 1;
    int length = snprintf(path, sizeof path, "%.*s/%s%s", folder, slash ? here.dli_fname : ".", between, file_name);
    return length < (int)sizeof path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static void *open_library(void)
{
    const char *given = getenv("SPECULAR_DEVICE_LIBRARY");
    if (given && *given) return dlopen(given, RTLD_NOW | RTLD_LOCAL);
    void *library = open_beside("");
    if (!library) library = open_beside(SP_LIBRARY_FOLDER);
    return library ? library : dlopen(file_name, RTLD_NOW | RTLD_LOCAL);
}

sp_status sp_device_load(const sp_device_ops **out, int number, sp_error *err)
{
    void *library = open_library();
    if (!library) {
        const char *why = dlerror();
        return SP_FAIL(err, SP_EDEVICE, "device cuda:%d: %.300s; build with the CUDA Toolkit or use --device cpu",
                       number, why ? why : file_name);
    }
    sp_device_entry *entry;
    void *symbol = dlsym(library, SP_DEVICE_ENTRY);
    memcpy(&entry, &symbol, sizeof entry);
    const sp_device_ops *device = symbol ? entry() : NULL;
    if (!device || device->version != SP_DEVICE_VERSION)
        return SP_FAIL(err, SP_EDEVICE, "device cuda:%d: %s is of version %d; expected %d: install both from "
                       "one build, or use --device cpu", number, file_name, device ? device->version : 0,
                       SP_DEVICE_VERSION);
    SP_TRY(device->check(number, err));
    *out = device;
    return SP_OK;
}
