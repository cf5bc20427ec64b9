/* memory.c - memcpy, memmove and memset for images without a C library, and the names that
 * compilers for Arm call them by (Run-time ABI for the Arm Architecture, section 5.3.4). */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A compiler must not recognise the loop in memcpy as a memcpy. */
#if defined(__clang__)
#define MIDGE_NO_BUILTIN __attribute__((no_builtin))
#else
#define MIDGE_NO_BUILTIN __attribute__((optimize("no-tree-loop-distribute-patterns")))
#endif

#define WORD (sizeof(uint32_t))

typedef uint32_t __attribute__((may_alias)) midge_word;

static int aligned(const void *a, const void *b)
{
    return ((((uintptr_t)a) | ((uintptr_t)b)) % WORD) == 0U;
}

/* From the first byte to the last: also right when `to` lies before `from` and they overlap. */
MIDGE_NO_BUILTIN
static inline void copy_upwards(unsigned char *to, const unsigned char *from, size_t size)
{
    if (aligned(to, from)) {
        for (; size >= WORD; size -= WORD) {
            *(midge_word *)(void *)to = *(const midge_word *)(const void *)from;
            to += WORD;
            from += WORD;
        }
    }
    for (; size > 0U; size--) {
        *to = *from;
        to++;
        from++;
    }
}

MIDGE_NO_BUILTIN
void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    copy_upwards(to, from, size);
    return to;
}

/* From the last byte to the first when `to` lies behind `from`. */
MIDGE_NO_BUILTIN
static inline void move_bytes(unsigned char *to, const unsigned char *from, size_t size)
{
    if ((uintptr_t)to <= (uintptr_t)from) {
        copy_upwards(to, from, size);
    } else {
        while (size > 0U) {
            size--;
            to[size] = from[size];
        }
    }
}

MIDGE_NO_BUILTIN
static inline void fill_bytes(unsigned char *to, int value, size_t size)
{
    const unsigned char byte = (unsigned char)value;
    const uint32_t word = 0x01010101U * (uint32_t)byte;

    if (aligned(to, to)) {
        for (; size >= WORD; size -= WORD) {
            *(midge_word *)(void *)to = word;
            to += WORD;
        }
    }
    for (; size > 0U; size--) {
        *to = byte;
        to++;
    }
}

MIDGE_NO_BUILTIN
void *memmove(void *to, const void *from, size_t size)
{
    move_bytes(to, from, size);
    return to;
}

MIDGE_NO_BUILTIN
void *memset(void *to, int value, size_t size)
{
    fill_bytes(to, value, size);
    return to;
}

#if defined(__arm__)

#define MIDGE_COPY(name, function)                   \
    void name(void *to, const void *from, size_t n); \
    MIDGE_NO_BUILTIN void name(void *to, const void *from, size_t n) { function(to, from, n); }
#define MIDGE_SET(name)                        \
    void name(void *to, size_t n, int value);  \
    MIDGE_NO_BUILTIN void name(void *to, size_t n, int value) { fill_bytes(to, value, n); }
#define MIDGE_CLEAR(name)           \
    void name(void *to, size_t n);  \
    MIDGE_NO_BUILTIN void name(void *to, size_t n) { fill_bytes(to, 0, n); }

MIDGE_COPY(__aeabi_memcpy, copy_upwards)
MIDGE_COPY(__aeabi_memcpy4, copy_upwards)
MIDGE_COPY(__aeabi_memcpy8, copy_upwards)
MIDGE_COPY(__aeabi_memmove, move_bytes)
MIDGE_COPY(__aeabi_memmove4, move_bytes)
MIDGE_COPY(__aeabi_memmove8, move_bytes)
MIDGE_SET(__aeabi_memset)
MIDGE_SET(__aeabi_memset4)
MIDGE_SET(__aeabi_memset8)
MIDGE_CLEAR(__aeabi_memclr)
MIDGE_CLEAR(__aeabi_memclr4)
MIDGE_CLEAR(__aeabi_memclr8)

#endif
