#include "kernels/cpu/simd.h"

/* The entries this build of the cpu kernels has: cpu_ops.def for AVX2 and AVX-512, amx_ops.def on top for AMX. */
#ifdef SP_AMX
#define SP_LIST "kernels/cpu/amx_ops.def"
#else
#define SP_LIST "kernels/cpu/cpu_ops.def"
#endif

#define SP_CPU_OP(op) extern sp_op_##op SP_CPU(op);
#include SP_LIST
#undef SP_CPU_OP

extern void SP_CPU(fill)(sp_ops *table);

void SP_CPU(fill)(sp_ops *table)
{
#define SP_CPU_OP(op) table->op = SP_CPU(op);
#include SP_LIST
#undef SP_CPU_OP
}
