#include "kernels/device.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define SP_OP(name, result, arguments) extern result sp_ref_##name arguments;
#include "kernels/ops.def"
#undef SP_OP
#ifdef SP_HAVE_avx2
extern void sp_avx2_fill(sp_ops *table);
extern void sp_avx512_fill(sp_ops *table);
#endif
#ifdef SP_HAVE_amx
extern void sp_amx_fill(sp_ops *table);
#endif

enum { REF, AVX2, AVX512, AMX, N_TABLES, DEVICE_PACK = N_TABLES }; /* DEVICE_PACK is found by no name */

static sp_ops tables[N_TABLES + 1] = {{.name = "ref"}, {.name = "avx2"}, {.name = "avx512"}, {.name = "amx"}};
static const char *names[N_TABLES + 1];

#if defined(SP_HAVE_avx2)

#ifdef SP_HAVE_amx
/* AMX tiles are off until a process asks the kernel for them: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA). */
static bool amx_permitted(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

static bool amx_there(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    bool tiles = d >> 24 & 1, tiles_bf16 = d >> 22 & 1;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d)) return false;
    bool rounds = a >> 5 & 1; /* AVX512_BF16 */
    return tiles && tiles_bf16 && rounds && amx_permitted();
}
#endif

static int best_table(void)
{
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return REF;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return AVX2;
#ifdef SP_HAVE_amx
    if (amx_there()) return AMX;
#endif
    return AVX512;
}

#else
static int best_table(void) { return REF; }
#endif

/* Runs before main, so the tables are never written while they are read. */
__attribute__((constructor)) static void fill_tables(void)
{
#define SP_OP(name, result, arguments) tables[REF].name = sp_ref_##name;
#include "kernels/ops.def"
#undef SP_OP
    for (int table = AVX2; table < N_TABLES; table++) {
        const char *name = tables[table].name;
        tables[table] = tables[table - 1];
        tables[table].name = name;
#ifdef SP_HAVE_avx2
        if (table == AVX2) sp_avx2_fill(&tables[table]);
        if (table == AVX512) sp_avx512_fill(&tables[table]);
#endif
#ifdef SP_HAVE_amx
        if (table == AMX) sp_amx_fill(&tables[table]);
#endif
    }
    int best = best_table(), n = 0;
    tables[DEVICE_PACK] = tables[best];
    tables[DEVICE_PACK].pack = sp_device_pack;
    for (int table = best; table >= REF; table--) names[n++] = tables[table].name;
}

const sp_ops *sp_device_pack_ops(void) { return &tables[DEVICE_PACK]; }
const char *const *sp_ops_names(void) { return names; }

const sp_ops *sp_ops_find(const char *name)
{
    if (name == NULL || strcmp(name, "auto") == 0) name = names[0];
    for (int i = 0; names[i]; i++)
        for (int table = REF; table < N_TABLES; table++)
            if (strcmp(names[i], name) == 0 && strcmp(tables[table].name, name) == 0) return &tables[table];
    return NULL;
}
