"""Names that a package cannot have: its files or symbols would take the place of others.

File systems of Windows and macOS do not tell capital letters from small ones, so neither do these.
"""

from __future__ import annotations

import re

_C_WORDS = frozenset(
    """
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while
    alignas alignof bool constexpr false nullptr static_assert thread_local true typeof
    typeof_unqual
    and and_eq asm bitand bitor catch char8_t char16_t char32_t class co_await co_return co_yield
    compl concept const_cast consteval constinit decltype delete dynamic_cast explicit export friend
    mutable namespace new noexcept not not_eq operator or or_eq private protected public
    reinterpret_cast requires static_cast template this throw try typeid typename using virtual
    wchar_t xor xor_eq
    midge
    """.split()
)

# C up to C23; POSIX up to 2024; headers of compilers and of C libraries (newlib, picolibc, glibc,
# Windows') that those include or that firmware does; Arm's and RISC-V's.
_HEADERS = frozenset(
    """
    assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign
    stdarg stdatomic stdbit stdbool stdckdint stdcountof stddef stdint stdio stdlib stdnoreturn
    string tgmath threads time uchar wchar wctype
    aio cpio devctl dirent dlfcn endian fcntl fmtmsg fnmatch ftw glob grp iconv langinfo libgen
    libintl monetary mqueue ndbm netdb nl_types poll pthread pwd regex sched search semaphore spawn
    strings stropts syslog tar termios trace ulimit unistd utime utmpx wordexp
    gcov mm_malloc omp stdfix syslimits unwind varargs
    alloca ansi ar argz byteswap crypt cxxabi elf envlock envz err error execinfo fastmath features
    getopt ieeefp link malloc memory newlib obstack paths picolibc reent regdef stdio_ext sysexits
    ucontext unctrl utmp values
    conio corecrt crtdefs crtdbg direct immintrin intrin io process sal tchar vadefs windows
    winsock2
    arm_acle arm_bf16 arm_cde arm_cmse arm_fp16 arm_math arm_mve arm_mve_types arm_neon arm_sme
    arm_sve arm_vector_types
    """.split()
)
_MORE_HEADERS = re.compile(r"cmsis_\w+|core_(cm|ca|cr|sc)\w+|riscv_\w+|(sifive|andes)_vector")

# `NAME_init` is a function of C or POSIX.
_FAMILIES = frozenset({"atomic", "mtx", "sem"})
_OTHERS_PREFIXES = ("pthread_", "posix_")

# libNAME.a is the compiler's; a linker takes the first that it finds.
_LIBRARIES = frozenset("c g m gcc nosys rdimon semihost pthread rt dl util".split())

# Targets of build systems that CMake writes, whatever a project is made of.
_CMAKE_TARGETS = frozenset(
    "all all_build clean depend edit_cache help install rebuild_cache zero_check".split()
)
_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")


def is_c_word(name: str) -> bool:
    """Whether C or C++ means something by `name`."""
    return name in _C_WORDS


def library_name(name: str) -> str:
    """What the library of a package is called, as a file and as a target of CMake: as the package,
    unless that is another's."""
    taken = name.lower() in _LIBRARIES | _CMAKE_TARGETS
    return f"{name}_model" if taken else name


def why_reserved(name: str) -> str:
    """What a package of that name would be in the place of; "" if of nothing."""
    low = name.lower()
    reasons = (
        (is_c_word(name), f"{name} is a word of C, C++ or Midge"),
        (low.startswith("midge_"), "names of Midge's runtime begin with midge_"),
        (
            low in _HEADERS or _MORE_HEADERS.fullmatch(low),
            f"{low}.h is another header: programs would include the wrong one",
        ),
        (
            low in _FAMILIES or low.startswith(_OTHERS_PREFIXES),
            f"{low}_... are functions of C or POSIX",
        ),
        (_DEVICES.fullmatch(low), "Windows has a device of that name, and no such files"),
    )
    return next((reason for holds, reason in reasons if holds), "")
