"""Names of packages: their files, symbols and libraries take the place of nobody else's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import ziglang

import midge as midge_package
from c_program import call, command
from conftest import DIGITS, Cli
from midge.codegen.names import check_prefix, prefix_from
from midge.core.errors import UsageError
from midge.runtime import headers
from small_models import MODELS, graph

KINDS = {
    "header": "stdint stddef math string float inttypes stdbit unistd pthread features newlib "
    "arm_math arm_mve core_cm4 cmsis_gcc riscv_vector windows STDINT String",
    "word": "int register inline constexpr typeof xor_eq co_await template midge",
    "runtime": "midge_status midge_kernel MIDGE_FIXED",
    "function": "atomic mtx sem pthread_mutex posix_spawnattr",
    "device": "con nul aux prn com1 LPT9",
    "length": "x" * 101,
}
NAMES = [name for names in KINDS.values() for name in names.split()]
FREE = "kws net model test digits int8 stdint_net mathematics com10 console size a uint8 linux"


@pytest.mark.parametrize("name", NAMES)
def test_what_others_have_is_refused_with_a_name_that_is_free(name: str) -> None:
    with pytest.raises(UsageError, match="name ") as error:
        check_prefix(name)
    assert error.value.hint
    assert check_prefix(prefix_from(name)) != name


@pytest.mark.parametrize("name", "c m gcc nosys all clean help install rebuild_cache".split())
def test_libraries_and_targets_of_others_are_called_otherwise(name: str) -> None:
    """libm.a would be linked in the place of the C library's; the C is called as was asked for."""
    package = midge_package.compile(graph(MODELS["int8"]()), name=name, search=False, prove=False)
    files = package.files
    assert f"{name}.h" in files
    assert f"add_library({name}_model STATIC {name}.c" in files["CMakeLists.txt"]
    assert not re.search(rf"[( ]{name}[ )]", files["CMakeLists.txt"].partition("minimum")[2])
    assert f"lib{name}_model.a: $(OBJECTS)" in files["Makefile"]
    assert f"lib{name}_model.a" in files["README.md"]


@pytest.mark.parametrize("name", FREE.split())
def test_other_names_are_taken_as_they_are(name: str) -> None:
    assert check_prefix(name) == prefix_from(name) == name


def test_the_command_refuses_one_and_default_names_keep_away(midge: Cli, tmp_path: Path) -> None:
    refused = midge("compile", DIGITS, "--name", "stdint")
    assert refused.code == 2
    assert "stdint.h is another header" in refused.err
    assert "'model_stdint'" in refused.err
    shutil.copy(DIGITS, tmp_path / "stdint.tflite")
    assert midge("compile", "stdint.tflite", "--no-search", "--no-prove").code == 0
    assert (tmp_path / "model_stdint" / "model_stdint.h").is_file()


def included(compiler: list[str]) -> set[str]:
    """Names of the headers, out of no further folder, that a package's C reaches."""
    text = "".join(f"#include <{h}.h>\n" for h in "limits stdbool stddef stdint string".split())
    words = [*compiler, "-H", "-E", "-x", "c", "-", "-o", os.devnull]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
    roots = r"/(?:include|include-fixed|newlib)/([A-Za-z]\w*)\.h$"
    return {*re.findall(roots, done.stderr, re.MULTILINE)}


COMPILERS = {
    "zig": [str(Path(ziglang.__file__).parent / "zig"), "cc"],
    "gcc": ["gcc"],
    "arm-none-eabi-gcc": ["arm-none-eabi-gcc"],
}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_what_the_standard_headers_include_is_among_them(compiler: str) -> None:
    words = COMPILERS[compiler]
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {compiler}")
    found = included(words)
    assert {"stdint", "limits"} <= found
    for name in found:
        with pytest.raises(UsageError, match="is another header"):
            check_prefix(name)


def test_the_runtimes_own_headers_are_among_them() -> None:
    names = re.findall(r"^/\* (\w+)\.h", "\n".join(headers()), re.MULTILINE)
    assert len(names) > 10
    for name in names:
        with pytest.raises(UsageError, match="Midge's runtime"):
            check_prefix(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8", "size", "unix", "SIZE", "uint8_t", "console"])
def test_names_beside_macros_and_types_compile(name: str, tmp_path: Path) -> None:
    """Those of <stdint.h> and of compilers are none of a package's: it adds to the name."""
    package = midge_package.compile(
        graph(MODELS["ports"](), "net"), "host", name=name, search=False, prove=False
    )
    folder = package.save(tmp_path / name)
    for source in package.sources:
        call([*command("gcc"), "-std=gnu11", "-Wall", "-Werror", "-I.", "-c", source], folder)
