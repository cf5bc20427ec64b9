/* string.h - the memory functions generated code may call, for builds without a C library. */
#ifndef MIDGE_BARE_STRING_H
#define MIDGE_BARE_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);

#endif /* MIDGE_BARE_STRING_H */
