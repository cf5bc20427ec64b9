/* SPDX-License-Identifier: MIT-0 */
/* midge_status.h - the one result type of the runtime. */
#ifndef MIDGE_STATUS_H
#define MIDGE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Zero is success, everything else a failure; further values go at the end. */
typedef enum midge_status {
    MIDGE_OK = 0,
    MIDGE_ERR_ARG,   /* a caller broke the contract in the header */
    MIDGE_ERR_SPACE, /* the arena is too small */
    MIDGE_ERR_BUSY   /* another instance has the package's own arena */
} midge_status;

#ifdef __cplusplus
}
#endif
#endif /* MIDGE_STATUS_H */
