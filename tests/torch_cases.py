"""PyTorch models for the frontend's tests, exported once: `python tests/torch_cases.py` writes them
with their inputs and outputs to tests/data/torch_cases.zip, which needs no PyTorch to be read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conftest import NO_SEARCH
from midge import driver
from midge.core.types import Array
from midge.frontends.torch import read
from midge.run import RUNNERS
from midge.target import load_target

STORED = Path(__file__).parent / "data" / "torch_cases.zip"


@dataclass(frozen=True)
class Case:
    """program: a .pt2 file.  outputs: of PyTorch, for `x`."""

    name: str
    program: bytes
    x: Array
    outputs: tuple[Array, ...]


def stored(path: Path = STORED) -> list[Case]:
    """The cases of a file."""
    cases = []
    with zipfile.ZipFile(path) as file:
        for entry in sorted(n for n in file.namelist() if n.endswith(".pt2")):
            name = entry.removesuffix(".pt2")
            arrays = np.load(io.BytesIO(file.read(f"{name}.npz")))
            outputs = tuple(arrays[k] for k in sorted(arrays) if k != "x")
            cases.append(Case(name, file.read(entry), arrays["x"], outputs))
    return cases


def outputs_in_c(case: Case) -> list[Array]:
    """What the C of a case computes on this host, in the order of PyTorch's outputs."""
    graph = read(case.program, "g")
    made = driver.compile_graph(graph, load_target("cortex-m4"), NO_SEARCH)
    session = RUNNERS["host"].load(made.package, toolchain=None, optimize=None)
    outputs = session.run({graph.inputs[0]: case.x}).outputs
    session.close()
    return [outputs[port.name] for port in made.package.outputs]


def models() -> Iterator[tuple[str, Any, Any]]:  # noqa: C901, PLR0915 - a list
    """Name, module and input."""
    import torch
    from torch import nn
    from torch.nn import functional as f

    class Of(nn.Module):
        def __init__(self, function: Callable[..., Any], *parts: Any) -> None:
            super().__init__()
            self.function, self.parts = function, nn.ModuleList(parts)

        def forward(self, x: Any) -> Any:
            return self.function(*self.parts, x)

    torch.manual_seed(0)
    image, series, table = torch.randn(1, 4, 8, 8), torch.randn(2, 6, 5), torch.randn(3, 7)

    def layer(part: Any) -> Any:
        return Of(lambda p, x: p(x), part)

    yield "conv", layer(nn.Conv2d(4, 6, 3, padding="same", dilation=2)), image
    yield "conv1d", layer(nn.Conv1d(6, 4, 3, stride=2, padding=1, groups=2)), series
    yield "conv_lone", layer(nn.Conv2d(4, 2, 3)), image[0]
    transposed = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1)
    yield "conv_transpose", layer(transposed), image
    norms = nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4))
    yield "norms", norms, image
    yield "layer_norm", layer(nn.LayerNorm(5)), series
    both = nn.LSTM(5, 7, 2, batch_first=True, bidirectional=True)
    yield "lstm", Of(lambda p, x: p(x)[0], both), series
    yield "lstm_states", Of(lambda p, x: p(x)[1], nn.LSTM(5, 7, 2)), series
    yield "gru", layer(nn.GRU(5, 7, batch_first=True)), series
    yield "rnn", Of(lambda p, x: p(x)[1], nn.RNN(5, 7, bias=False, nonlinearity="relu")), series
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    yield "transformer", nn.TransformerEncoder(encoder, 2), torch.randn(2, 5, 8)
    heads = nn.MultiheadAttention(8, 2, batch_first=True)
    yield "attention", Of(lambda p, x: p(x, x, x)[0], heads), torch.randn(2, 5, 8)
    causal = Of(lambda x: f.scaled_dot_product_attention(x, x, x, is_causal=True))
    yield "causal", causal, torch.randn(1, 2, 5, 8)
    yield "prelu", layer(nn.PReLU(4)), image

    def activations(x: Any) -> Any:
        return torch.cat([
            f.relu(x), f.relu6(x * 5), f.elu(x), f.selu(x), f.celu(x, 2.0), f.gelu(x),
            f.gelu(x, approximate="tanh"), f.silu(x), f.mish(x), f.softplus(x), f.softplus(x, 2.0),
            f.hardswish(x), f.hardsigmoid(x), f.hardtanh(x), f.leaky_relu(x, 0.2),
            torch.sigmoid(x), torch.tanh(x), f.logsigmoid(x),
        ], 1)  # fmt: skip

    def arithmetic(x: Any) -> Any:
        a = x.abs()
        return torch.stack([
            torch.exp(x), torch.log(a + 1), torch.sqrt(a), torch.rsqrt(a + 1), x**2, x**3, a**0.5,
            2 - x, x / 3, x * 2.5, 1 / (a + 1), torch.erf(x), torch.sin(x), torch.floor(x),
            torch.round(x), -x, torch.sign(x), torch.log1p(a), torch.expm1(x),
            torch.sub(x, a, alpha=2),
        ])  # fmt: skip

    def choices(x: Any) -> Any:
        inside = (x < 0) & (x > -1)
        chosen = torch.where(x > 0.5, x, torch.zeros_like(x)) + torch.where(inside, 1.0, 2.0)
        return chosen + x.clamp(-0.5, 0.5) + torch.maximum(x, -x) + x.masked_fill(x != x, 3.0)

    def reductions(x: Any) -> Any:
        return (
            x.mean(1), x.sum((1, 2), keepdim=True), x.amax(2), x.max(1)[0], x.argmax(2).float(),
            x.var(1), x.std(2), x.prod(1), x.logsumexp(2), f.softmax(x, 1), f.log_softmax(x, -1),
        )  # fmt: skip

    def pools(x: Any) -> Any:
        return (
            f.max_pool2d(x, 3, 2, 1), f.avg_pool2d(x, 2), f.avg_pool2d(x, 3, 1, 1),
            f.adaptive_avg_pool2d(x, 1), f.adaptive_avg_pool2d(x, 4), f.pixel_shuffle(x, 2),
            f.interpolate(x, scale_factor=2), f.interpolate(x, scale_factor=2, mode="bilinear"),
            f.interpolate(x, size=(5, 11), mode="bilinear", align_corners=True),
        )  # fmt: skip

    def shapes(x: Any) -> Any:
        return (
            x.flatten(1), x.transpose(1, 2)[:, ::2, 1:].contiguous().view(x.shape[0], -1),
            x.permute(2, 0, 1).unsqueeze(0).squeeze(0), torch.stack(x.unbind(1), 2),
            torch.cat(x.chunk(2, 1), 2), torch.cat(x.split([1, 2, 3], 1), 1), x.flip(1),
            x.expand(3, 2, 6, 5), x.repeat(1, 2, 1), f.pad(x, (1, 2)), x[:, torch.tensor([3, 0])],
        )  # fmt: skip

    def composed(x: Any) -> Any:
        a = x.abs() + 0.1
        return (
            f.glu(x[:, :6], 1), x.norm(dim=1), x.norm(p=1, dim=1, keepdim=True), f.normalize(x),
            f.cosine_similarity(x, a, dim=1), f.pairwise_distance(x, a), f.rms_norm(x, (7,)),
            f.hardshrink(x), f.softshrink(x), f.threshold(x, 0.1, -1.0), torch.addcmul(x, a, a),
            torch.lerp(x, a, 0.3), torch.log2(a), torch.exp2(x), torch.remainder(x, 0.7),
            *torch.std_mean(x, 1), torch.tril(x), torch.cumprod(x, 1), torch.erfc(x),
            x.argsort(1), x @ x[0], torch.outer(x[0], x[1]), f.one_hot(x.argmax(1), 7),
        )  # fmt: skip

    def parts(x: Any) -> Any:
        return (
            x.roll((1, 2), (1, 2)), x.roll(1), x.narrow(1, 2, 3), x.movedim(1, -1),
            x.repeat_interleave(2, dim=1), x.unfold(1, 4, 2),
        )  # fmt: skip

    def images(x: Any) -> Any:
        return (
            f.pixel_unshuffle(x, 2), f.channel_shuffle(x, 2), f.adaptive_max_pool2d(x, 2),
            f.interpolate(x, scale_factor=1.3, mode="bilinear"), f.interpolate(x, scale_factor=1.3),
            f.interpolate(x[0], scale_factor=1.7, mode="linear"),
        )  # fmt: skip

    yield "composed", Of(composed), table
    yield "parts", Of(parts), series
    yield "images", Of(images), image
    for kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell):
        yield f"one_{kind.__name__.lower()}", layer(kind(7, 4)), table
    yield "weight_norm", layer(nn.utils.parametrizations.weight_norm(nn.Linear(7, 4))), table
    grouped = Of(lambda x: f.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True))
    yield "grouped_queries", grouped, image
    yield "activations", Of(activations), table
    yield "arithmetic", Of(arithmetic), table
    yield "choices", Of(choices), table
    yield "reductions", Of(reductions), series
    yield "pools", Of(pools), image
    yield "shapes", Of(shapes), series
    yield (
        "products",
        Of(lambda x: x @ x.transpose(1, 2) + torch.einsum("bij,bkj->bik", x, x)),
        series,
    )
    yield "embedding", layer(nn.Embedding(10, 4)), torch.tensor([[1, 5, 9]])


def exported(quantised: bool = True) -> Iterator[Case]:
    """Every model as it is exported, and taken apart into core operators; then a quantised one."""
    import torch

    for name, module, x in models():
        program = torch.export.export(module.eval(), (x,))
        results = torch.utils._pytree.tree_leaves(module(x))
        outputs = tuple(np.array(r.detach().numpy()) for r in results)
        for suffix, own in (("", program), ("_core", program.run_decompositions())):
            yield Case(name + suffix, saved(own), x.numpy(), outputs)
    if quantised:
        yield _quantised()


def _quantised() -> Case:
    """By the quantiser for x86 of torchao."""
    import torch
    from torch import nn
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1, stride=2)
            self.norm = nn.BatchNorm2d(8)
            self.second = nn.Conv2d(8, 8, 3, padding=1)
            self.last = nn.Linear(8 * 4 * 4, 10)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.norm(self.first(x)))
            x = torch.relu(self.second(x)) + x
            return self.last(torch.flatten(nn.functional.max_pool2d(x, 2), 1))

    torch.manual_seed(0)
    x = torch.randn(1, 3, 16, 16)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(Net().eval(), (x,)).module(), quantizer)
    for _ in range(8):
        prepared(torch.randn(1, 3, 16, 16))
    converted = convert_pt2e(prepared)
    program = torch.export.export(converted, (x,))
    return Case("quantised", saved(program), x.numpy(), (converted(x).detach().numpy(),))


def saved(program: Any) -> bytes:
    import torch

    out = io.BytesIO()
    torch.export.save(program, out)
    return _without_traces(out.getvalue())


def _without_traces(data: bytes) -> bytes:
    """The file without the paths of the machine on which it was made, and without pickles."""
    import json

    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("models/model.json"):
                model = json.loads(content)
                _drop(model, "stack_trace")
                model["graph_module"].pop("module_call_graph", None)
                model.pop("guards_code", None)
                content = json.dumps(model).encode()
            if "sample_inputs" not in name:
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                new.writestr(info, content)
    return out.getvalue()


def _drop(value: Any, key: str) -> None:
    """Remove an entry wherever it stands."""
    if isinstance(value, dict):
        value.pop(key, None)
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _drop(part, key)


def store(path: Path, cases: Iterable[Case]) -> None:
    """Write a file that `stored` reads."""
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for case in cases:
            arrays = io.BytesIO()
            outputs = {f"y{i:02d}": a for i, a in enumerate(case.outputs)}
            np.savez(arrays, x=case.x, **outputs)
            for suffix, data in ((".pt2", case.program), (".npz", arrays.getvalue())):
                info = zipfile.ZipInfo(case.name + suffix, (1980, 1, 1, 0, 0, 0))
                file.writestr(info, data, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    store(STORED, exported())
