#ifndef SP_HOST_LOOP_H
#define SP_HOST_LOOP_H
/* The decode loop of several pictures on the processor, in the form of a device's (kernels/device_loop.h), so that
 * decode/device.h keeps both busy alike. A pass reads the weights once for all pictures; their rules then run side by
 * side, a picture a thread. It is done when it is queued.
 *
 *     sp_host_loop *host;
 *     SP_TRY(sp_host_loop_open(&host, &model, ops, pool, max_window, 8, 256, err));
 *     sp_device_loop loop = sp_host_loop_of(host);
 *
 * The tokens of a picture are those that it has alone. model has forward_batch; its begin is called between passes. All
 * memory is taken by open. */
#include "base/pool.h"
#include "decode/decode.h"

typedef struct sp_host_loop sp_host_loop;

/* max_rows: of a pass, of all pictures together, in one stream. */
SP_CHECK sp_status sp_host_loop_open(sp_host_loop **out, const sp_model *model, const sp_ops *ops, sp_pool *pool,
                                     size_t max_window, size_t max_pictures, size_t max_rows, sp_error *err);
void sp_host_loop_close(sp_host_loop *host);
size_t sp_host_loop_bytes(const sp_host_loop *host);
sp_device_loop sp_host_loop_of(sp_host_loop *host);

#endif
