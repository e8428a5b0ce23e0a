#ifndef SP_DEVICE_LIBRARY_H
#define SP_DEVICE_LIBRARY_H
/* The shared object of a device. It lies beside the program or library that asks, or where libraries are installed;
 * $SPECULAR_DEVICE_LIBRARY names another file.
 *
 *     SP_TRY(sp_device_load(&device, number, err));   // of "cuda:N"; stays loaded as long as the process lives */
#include "kernels/device.h"

/* SP_EDEVICE when it is not there, of another version, or the device of this number cannot be used. */
SP_CHECK sp_status sp_device_load(const sp_device_ops **out, int number, sp_error *err);

#endif
