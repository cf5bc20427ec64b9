"""--stream-time: every push gives what an inference on the last window gives."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c_program import STRICT, call, command, compile_objects
from conftest import NO_SEARCH, SHARED, unsearched
from midge import driver
from midge.cli import app
from midge.core.errors import ModelError, UsageError
from midge.core.options import CompileOptions
from midge.data import random_inputs
from midge.graph.attrs import Attr
from midge.graph.ir import Graph
from midge.loop.program import Ring
from midge.run import RUNNERS
from midge.target import load_target
from small_models import MODELS, graph
from stream_nets import (
    NETS,
    Net,
    Window,
    chain,
    compiled,
    frames_of,
    load,
    portions,
    pushes_of,
    strides,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

SWW = SHARED / "sww_int8.tflite"
needs_sww = pytest.mark.skipif(not SWW.exists(), reason="shared models are not here")


@pytest.mark.parametrize("quantised", [True, False], ids=["int8", "float"])
@pytest.mark.parametrize("name", NETS)
def test_pushes_are_the_sliding_window(name: str, quantised: bool) -> None:
    source = NETS[name](Net(quantised, 5))
    made = compiled(source)
    pushes = pushes_of(made)
    session = load(made.package)
    window = Window(made)
    for i, frames in enumerate(portions(frames_of(source, 2100 * pushes.hop, 5), pushes.hop)):
        if i in (3, 900):
            session.reset()
            window = Window(made)
        window.push(frames)
        window.check(session.push(frames), evaluated=i < 40 or i % 7 == 0)
    assert len(window.answers) > 20, "a net that always says the same shows nothing"
    session.close()


@pytest.mark.parametrize("factor", [2, 5])
@pytest.mark.parametrize("name", NETS)
def test_several_frames_at_a_time(name: str, factor: int) -> None:
    source = NETS[name](Net(True, 7))
    hop = factor * pushes_of(compiled(source)).hop
    if hop >= source.types[source.inputs[0]].shape[1]:
        pytest.skip("no window is left")
    made = compiled(source, hop)
    session = load(made.package)
    window = Window(made)
    for frames in portions(frames_of(source, 90 * hop, 5), hop):
        window.push(frames)
        window.check(session.push(frames))
    for given in random_inputs(source, 4, 1):  # whole windows, in between
        window.push(given[source.inputs[0]][0])
        window.check(session.run(given).outputs)
    session.close()


def test_every_push_of_a_small_net() -> None:
    m = Net(True, 11)
    x = m.conv(m.input((1, 6, 1, 2)), 2, 3)
    source = m.graph(m.depthwise(x, 3, stride=2))
    made = compiled(source)
    session = load(made.package)
    window = Window(made)
    for frames in portions(frames_of(source, 2500, 5), 1):
        window.push(frames)
        window.check(session.push(frames))
    session.close()


@pytest.mark.parametrize("name", ["chain", "strides", "residual", "moving_output"])
def test_layers_and_counts_in_the_emulator(name: str) -> None:
    source = NETS[name](Net(True, 5))
    made = compiled(source)
    (given,) = random_inputs(source, 1, 2)
    results = []
    for runner in ("host", "emulator"):
        session = load(made.package, runner)
        window = Window(made)
        run = session.run(given, layers=True)
        window.push(given[source.inputs[0]][0])
        window.check(run.outputs)
        for frames in portions(frames_of(source, 40, 9), pushes_of(made).hop):
            window.push(frames)
            window.check(session.push(frames))
        results.append(run)
        session.close()
    assert results[0].layers.keys() == results[1].layers.keys()
    for value, have in results[0].layers.items():
        assert np.array_equal(have, results[1].layers[value]), value
    assert results[1].instructions
    assert [o.name for o in results[1].operators] == [o.name for o in made.package.operators]


@pytest.mark.skipif(RUNNERS["qemu"].available() is not None, reason="no QEMU here")
@pytest.mark.parametrize("target", ["cortex-m4", "rv32imac"])
def test_in_qemu(target: str) -> None:
    made = compiled(strides(Net(True, 5)), target=target)
    (given,) = random_inputs(made.model, 1, 2)
    session = load(made.package, "qemu")
    run = session.run(given, layers=True)
    counted = session.run(given)
    session.close()
    window = Window(made)
    window.push(given[made.model.inputs[0]][0])
    window.check(run.outputs)
    window.check(counted.outputs)
    host = load(made.package)
    layers = host.run(given, layers=True).layers
    host.close()
    assert all(np.array_equal(have, layers[value]) for value, have in run.layers.items())


def test_rings_hold_what_later_windows_need() -> None:
    made = compiled(chain(Net(True, 3)))
    assert made.program.pushes is not None
    rings = list(made.program.pushes.rings.values())
    assert [r.slots for r in rings] == [3, 1, 5, 1, 10, 1, 7]
    assert [r.kept for r in rings] == [True, False, True, False, True, False, True]
    again = compiled(chain(Net(True, 3)), 4).program.pushes
    assert again is not None
    assert next(iter(again.rings.values())) == Ring(4, 22, 6, shifts=True)


@needs_sww
@pytest.mark.parametrize("runner", ["host", "emulator"])
def test_the_wake_word_model(runner: str) -> None:
    target = load_target("cortex-m4")
    made = driver.compile_file(SWW, target, unsearched(stream_time=0))
    whole = driver.compile_file(SWW, target, NO_SEARCH)
    session = load(made.package, runner)
    window = Window(made)
    count = 700 if runner == "host" else 60
    for i, frames in enumerate(portions(frames_of(made.model, count, 1), 1)):
        window.push(frames)
        window.check(session.push(frames), evaluated=i % 5 == 0)
    session.close()
    assert made.package.arena_size < whole.package.arena_size + 256
    work = [sum(op.macs for op in p.operators) for p in (made.package, whole.package)]
    assert work[0] * 15 < work[1]


def refused(source: Graph, hop: int = 0) -> str:
    with pytest.raises((ModelError, UsageError)) as caught:
        compiled(source, hop)
    return str(caught.value) + str(caught.value.hint)


def test_padding_in_time_is_refused() -> None:
    m = Net(True, 1)
    x = m.conv(m.input((1, 12, 1, 3)), 4, 3)
    source = m.graph(m.conv(x, 4, 3, pad=1))
    text = refused(source)
    assert "operator 1" in text
    assert "pads its input in time" in text
    assert "VALID" in text
    m = Net(False, 1)
    x = m.conv(m.input((1, 12, 1, 3)), 4, 3)
    attrs: dict[str, Attr] = {"paddings": (0, 0, 2, 0, 0, 0, 0, 0), "value": 0.0}
    y = m.conv(m.node("clip", [m.node("pad", [x], attrs)], {"low": -1.0, "high": 1.0}), 4, 3)
    assert "pads its input in time" in refused(m.graph(y))


def test_what_has_no_frames_is_refused() -> None:
    m = Net(True, 1)
    x = m.input((1, 8))
    source = m.graph(m.node("dense", [x, *m.weights(x, (3, 8), 0)]))
    assert "not one window of frames" in refused(source)
    assert "not one window of frames" in refused(graph(MODELS["ports"](), "ports"))
    m = Net(True, 1)
    assert "reads its input as a whole" in refused(m.graph(m.scores(m.input((1, 8, 1, 3)))))


@pytest.mark.parametrize("hop", [3, 32])
def test_a_hop_that_does_not_fit_is_refused(hop: int) -> None:
    text = refused(strides(Net(True, 1)), hop)
    assert "4, 8, 12, 16, 20, 24, 28" in text


def test_streaming_both_ways_is_refused() -> None:
    with pytest.raises(UsageError, match="not both"):
        CompileOptions(stream_input=True, stream_time=0)


def test_only_packages_with_frames_take_them() -> None:
    source = chain(Net(True, 3))
    plain = driver.compile_graph(source, load_target("cortex-m4"), NO_SEARCH).package
    for package, frames in ((plain, np.zeros((1, 1, 6), np.int8)), (compiled(source).package, 0)):
        session = load(package)
        with pytest.raises(UsageError):
            session.push(np.asarray(frames))
        session.close()


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("name", ["strides", "residual", "moving_output"])
def test_compiles_without_a_warning(name: str, compiler: str, tmp_path: Path) -> None:
    for kind in (True, False):
        package = compiled(NETS[name](Net(kind, 5)), static_arena=kind).package
        folder = package.save(tmp_path / f"out{kind}")
        compile_objects(package, folder, compiler, *STRICT, "-O2")
        use = f'#include "{package.name}.h"\n'
        (folder / "use.cpp").write_text(use)
        flags = ["-std=c++17", *STRICT[1:], "-Wold-style-cast"]
        call([*command(compiler, cxx=True), *flags, "-c", "use.cpp", "-o", "use.o"], folder)


MAIN = """\
#include <stdio.h>
#include <stdlib.h>
#include "net.h"

int main(void)
{
    static int8_t frames[NET_HOP * NET_FRAME_ELEMENTS];
    net_context one;
    net_context two;
    void *const a = malloc(NET_ARENA_SIZE);
    void *const b = malloc(NET_ARENA_SIZE);
    uint32_t missing = (NET_WINDOW + NET_HOP - 1U) / NET_HOP * NET_HOP;

    if ((net_init(&one, a, NET_ARENA_SIZE) != MIDGE_OK) || (net_push(&one, NULL) == MIDGE_OK)) {
        return 1;
    }
    if ((net_init(&two, b, NET_ARENA_SIZE) != MIDGE_OK) || (net_push(NULL, frames) == MIDGE_OK)) {
        return 2;
    }
    for (int turn = 0; turn < 2; ++turn) {
        for (int i = 0; i < 60; ++i) {
            if (fread(frames, 1U, sizeof frames, stdin) != sizeof frames) {
                return 3;
            }
            missing -= (missing > 0U) ? NET_HOP : 0U;
            if ((net_push(&one, frames) != MIDGE_OK) || (net_frames_missing(&one) != missing)) {
                return 4;
            }
            if ((i % 2 == 0) && (net_push(&two, frames) != MIDGE_OK)) {
                return 5;
            }
            if (missing == 0U) {
                (void)fwrite(net_output(&one), 1U, NET_OUTPUT_SIZE, stdout);
            }
        }
        missing = (NET_WINDOW + NET_HOP - 1U) / NET_HOP * NET_HOP;
        if (net_reset(&one) != MIDGE_OK) {
            return 6;
        }
    }
    (void)fwrite(net_output(&two), 1U, NET_OUTPUT_SIZE, stdout);
    free(a);
    free(b);
    return 0;
}
"""


@pytest.mark.parametrize("hop", [0, 8])
@pytest.mark.parametrize("name", ["strides", "branches"])
def test_instances_beside_each_other_under_sanitizers(name: str, hop: int, tmp_path: Path) -> None:
    made = compiled(NETS[name](Net(True, 5)), hop)
    package = made.package
    folder = package.save(tmp_path / "out")
    (folder / "main.c").write_text(MAIN)
    words = [*command("gcc"), *STRICT, "-g", "-O1", "-fsanitize=address,undefined"]
    words += ["-fno-sanitize-recover=all", "-I.", "main.c", *package.sources, "-o", "main"]
    call(words, folder)
    given = portions(frames_of(made.model, 120 * pushes_of(made).hop, 4), pushes_of(made).hop)
    data = call(["./main"], folder, b"".join(p.tobytes() for p in given))
    size = package.outputs[0].type.size
    answers = deque(data[at : at + size] for at in range(0, len(data), size))

    def take() -> dict[str, Any]:
        t = package.outputs[0]
        return {t.name: np.frombuffer(answers.popleft(), t.type.dtype.numpy).reshape(t.type.shape)}

    two = Window(made)
    for turn in range(2):
        window = Window(made)
        for i, frames in enumerate(given[60 * turn : 60 * turn + 60]):
            window.push(frames)
            if i % 2 == 0:
                two.push(frames)
            window.check(take() if len(window.frames) == window.length else None)
    two.check(take())
    assert not answers


@needs_sww
def test_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["verify", str(SWW), "--stream-time", "--on", "host", "-n", "2", "--no-search"]
    assert app.run(words) == 0
    words = ["compile", str(SWW), "--stream-time", "4", "-o", str(tmp_path / "out"), "--no-search"]
    assert app.run(words) == 0
    assert "#define SWW_INT8_HOP 4U" in (tmp_path / "out" / "sww_int8.h").read_text()
    assert app.run(["compile", str(SHARED / "kws_int8.tflite"), "--stream-time"]) == 3
    assert app.run(["inspect", "--stream-time", str(SWW), "--no-search"]) == 0
    assert "at a time" in capsys.readouterr().out
