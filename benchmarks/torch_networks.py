"""Small networks in PyTorch as people bring them to microcontrollers, for `benchmarks/networks.py`.

NETWORKS: shapes of the inputs without the batch, and how to build the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # PyTorch's own name for it

Act = Callable[[], nn.Module]
seq = nn.Sequential


class Net(nn.Module):  # type: ignore[misc]
    """Parts by their names, and how a sample goes through them."""

    def __init__(self, how: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.how = how
        for name, part in parts.items():
            setattr(self, name, nn.ModuleList(part) if isinstance(part, list) else part)

    def forward(self, *x: Tensor) -> Any:
        return self.how(self, *x)


def conv(
    i: int, o: int, k: int = 3, s: int = 1, act: Act = nn.ReLU, groups: int = 1, d: int = 1
) -> nn.Module:
    return seq(nn.Conv2d(i, o, k, s, k // 2 * d, d, groups, False), nn.BatchNorm2d(o), act())


def conv1(i: int, o: int, k: int, s: int = 1) -> nn.Module:
    return seq(nn.Conv1d(i, o, k, s, k // 2, bias=False), nn.BatchNorm1d(o), nn.ReLU())


def separable(i: int, o: int, s: int = 1, act: Act = nn.ReLU) -> nn.Module:
    return seq(conv(i, i, 3, s, act, groups=i), conv(i, o, 1, act=act))


def turn() -> nn.Module:
    return Net(lambda n, x: x.transpose(1, 2))


def residual(*body: nn.Module) -> nn.Module:
    return Net(lambda n, x: x + n.body(x), body=seq(*body))


def beside(*ways: nn.Module) -> nn.Module:
    return Net(lambda n, x: torch.cat([way(x) for way in n.ways], 1), ways=list(ways))


def excite(c: int, act: Act = nn.ReLU, gate: Act = nn.Sigmoid) -> nn.Module:
    narrow, wide = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)
    return Net(lambda n, x: x * n.f(x), f=seq(nn.AdaptiveAvgPool2d(1), narrow, act(), wide, gate()))


def inverted(
    i: int, o: int, t: int, s: int = 1, k: int = 3, act: Act = nn.ReLU6, se: Any = None
) -> nn.Module:
    c = i * t
    parts = [conv(i, c, 1, act=act), conv(c, c, k, s, act, groups=c), *([se(c)] if se else [])]
    body = [*parts, nn.Conv2d(c, o, 1, bias=False), nn.BatchNorm2d(o)]
    return residual(*body) if s == 1 and i == o else seq(*body)


def basic(i: int, o: int, s: int = 1) -> nn.Module:
    body = seq(conv(i, o, s=s), conv(o, o, act=nn.Identity))
    short = nn.Identity() if i == o else nn.Conv2d(i, o, 1, s)
    return Net(lambda n, x: F.relu(n.body(x) + n.short(x)), body=body, short=short)


def head(c: int, classes: int = 10) -> nn.Module:
    return seq(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes))


def squeezed(i: int, s: int, e: int) -> nn.Module:
    wide = beside(nn.Conv2d(s, e, 1), nn.Conv2d(s, e, 3, padding=1))
    return seq(nn.Conv2d(i, s, 1), nn.ReLU(), wide, nn.ReLU())


def shuffled(c: int) -> nn.Module:
    def how(n: Any, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1)
        y = torch.cat((left, n.body(right)), 1)
        b, c, h, w = y.shape
        return y.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)

    return Net(how, body=seq(conv(c, c, 1), conv(c, c, act=nn.Identity, groups=c), conv(c, c, 1)))


def dense(i: int) -> nn.Module:
    new = (nn.BatchNorm2d(i), nn.ReLU(), nn.Conv2d(i, 8, 3, padding=1, bias=False))
    return beside(nn.Identity(), seq(*new))


def ghost(i: int, o: int) -> nn.Module:
    return seq(conv(i, o // 2, 1), beside(nn.Identity(), conv(o // 2, o // 2, groups=o // 2)))


def repvgg(c: int) -> nn.Module:
    ways = [*(conv(c, c, k, act=nn.Identity) for k in (3, 1)), nn.BatchNorm2d(c)]
    return Net(lambda n, x: F.relu(sum(w(x) for w in n.ways)), ways=ways)


def u_shaped(up: nn.Module) -> nn.Module:
    def how(n: Any, x: Tensor) -> Any:
        fine = n.down(x)
        return n.out(torch.cat((n.up(n.low(F.max_pool2d(fine, 2))), fine), 1))

    out = seq(conv(16, 8), nn.Conv2d(8, 2, 1), nn.Softmax(1))
    return Net(how, down=conv(3, 8), low=conv(8, 8), up=up, out=out)


def fcn() -> nn.Module:
    body = seq(conv(3, 8, s=2), beside(*[conv(8, 8, d=d) for d in (1, 2, 3)]), nn.Conv2d(24, 4, 1))
    large = partial(F.interpolate, mode="bilinear")
    return Net(lambda n, x: large(n.body(x), size=x.shape[-2:]).argmax(1), body=body)


def yolo() -> nn.Module:
    grid = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="xy"), 2)
    sizes = torch.tensor([[10.0, 13], [16, 30]]).view(2, 1, 1, 2)

    def how(n: Any, x: Tensor) -> Tensor:
        y = n.body(x).view(-1, 2, 8, 4, 4).permute(0, 1, 3, 4, 2).sigmoid()
        xy, wh = (y[..., :2] * 2 - 0.5 + grid) * 8, (y[..., 2:4] * 2) ** 2 * sizes
        return torch.cat((xy, wh, y[..., 4:]), -1).reshape(-1, 32, 8)

    act = partial(nn.LeakyReLU, 0.1)
    body = [conv(3, 8, s=2, act=act), conv(8, 12, s=2, act=act), conv(12, 24, s=2, act=act)]
    return Net(how, body=seq(*body, nn.Conv2d(24, 16, 1)))


def ssd() -> nn.Module:
    def how(n: Any, x: Tensor) -> Any:
        large = n.first(x)
        maps = zip(n.heads, (large, n.second(large)), strict=True)
        y = torch.cat([h(m).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 7) for h, m in maps], 1)
        return y[..., :4], y[..., 4:].softmax(-1)

    first, heads = seq(conv(3, 8, s=2), separable(8, 16, 2)), [conv(16, 14) for _ in "ab"]
    return Net(how, first=first, second=separable(16, 16, 2), heads=heads)


def keypoints() -> nn.Module:
    def how(n: Any, x: Tensor) -> Tensor:
        p = n.body(x).flatten(2).softmax(-1).view(-1, 4, 8, 8)
        line = torch.linspace(-1, 1, 8)
        return torch.stack(((p.sum(2) * line).sum(-1), (p.sum(3) * line).sum(-1)), -1)

    return Net(how, body=seq(conv(1, 8, s=2), separable(8, 16, 2), nn.Conv2d(16, 4, 1)))


def causal(i: int, o: int, d: int) -> nn.Module:
    body = nn.utils.parametrizations.weight_norm(nn.Conv1d(i, o, 3, padding=2 * d, dilation=d))
    short = nn.Conv1d(i, o, 1) if i != o else nn.Identity()
    return Net(lambda n, x: F.relu(F.relu(n.body(x)[..., : -2 * d]) + n.short(x)),
               body=body, short=short)  # fmt: skip


def inception(i: int) -> nn.Module:
    narrow = beside(*[nn.Conv1d(8, 4, k, padding="same", bias=False) for k in (5, 9, 20)])
    pooled = seq(nn.MaxPool1d(3, 1, 1), nn.Conv1d(i, 4, 1))
    return seq(beside(seq(nn.Conv1d(i, 8, 1), narrow), pooled), nn.BatchNorm1d(16), nn.ReLU())


def crnn() -> nn.Module:
    def how(n: Any, x: Tensor) -> Any:
        return n.top(n.rnn(n.body(x).permute(0, 3, 1, 2).flatten(2))[0]).log_softmax(-1)

    body = seq(conv(1, 8), nn.MaxPool2d(2), conv(8, 8), nn.MaxPool2d((4, 2)))
    rnn = nn.GRU(16, 8, batch_first=True, bidirectional=True)
    return Net(how, body=body, rnn=rnn, top=nn.Linear(16, 11))


def encoder(c: int, count: int = 1, **kwargs: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(c, 2, 2 * c, batch_first=True, **kwargs)
    return nn.TransformerEncoder(layer, count, enable_nested_tensor=False)


def vit() -> nn.Module:
    def how(n: Any, x: Tensor) -> Any:
        tokens = n.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((n.first.expand(x.shape[0], -1, -1), tokens), 1) + n.places
        return n.top(n.body(tokens)[:, 0])

    first, places = (nn.Parameter(torch.randn(1, k, 16) * 0.3) for k in (1, 17))
    body = encoder(16, 2, activation="gelu", norm_first=True)
    top = seq(nn.LayerNorm(16), nn.Linear(16, 10))
    return Net(how, patches=nn.Conv2d(3, 16, 8, 8), first=first, places=places, body=body, top=top)


def text() -> nn.Module:
    def how(n: Any, ids: Tensor) -> Any:
        void = ids == 0
        y = n.body(n.table(ids) + n.places, src_key_padding_mask=void)
        kept = (~void).unsqueeze(-1).float()
        return n.top((y * kept).sum(1) / kept.sum(1).clamp(min=1))

    places, top = nn.Parameter(torch.randn(12, 16) * 0.3), nn.Linear(16, 3)
    return Net(how, table=nn.Embedding(60, 16), places=places, body=encoder(16), top=top)


def causal_attention() -> nn.Module:
    def how(n: Any, ids: Tensor) -> Any:
        q, k, v = n.qkv(n.norm(n.table(ids))).view(-1, 10, 3, 2, 8).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return n.top(y.transpose(1, 2).reshape(-1, 10, 16))[:, -1]

    qkv, table = nn.Linear(16, 48), nn.Embedding(40, 16)
    return Net(how, qkv=qkv, table=table, norm=nn.LayerNorm(16), top=nn.Linear(16, 40))


def conformer() -> nn.Module:
    half = Net(lambda n, x: x * 0.5)
    feed = (nn.LayerNorm(16), nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 16), half)
    attend = nn.MultiheadAttention(16, 4, batch_first=True)
    attention = Net(lambda n, x: x + n.a(x, x, x, need_weights=False)[0], a=attend)
    depth = nn.Conv1d(16, 16, 7, padding=3, groups=16)
    mix = seq(nn.Conv1d(16, 32, 1), nn.GLU(1), depth, nn.BatchNorm1d(16), nn.SiLU())
    convolution = residual(nn.LayerNorm(16), turn(), mix, nn.Conv1d(16, 16, 1), turn())
    return seq(residual(*feed), attention, convolution, residual(*feed), nn.LayerNorm(16))


def mixer() -> nn.Module:
    tokens, channels = (seq(nn.Linear(16, h), nn.GELU(), nn.Linear(h, 16)) for h in (8, 32))
    block = seq(residual(nn.LayerNorm(16), turn(), tokens, turn()),
                residual(nn.LayerNorm(16), channels))  # fmt: skip
    top = Net(lambda n, x: n.top(x.mean(1)), top=nn.Linear(16, 10))
    return seq(nn.Conv2d(3, 16, 8, 8), nn.Flatten(2), turn(), block, nn.LayerNorm(16), top)


def siamese() -> nn.Module:
    def how(n: Any, a: Tensor, b: Tensor) -> Tensor:
        a, b = (F.normalize(n.body(x), dim=1) for x in (a, b))
        return torch.cat(((a * b).sum(1, keepdim=True), F.pairwise_distance(a, b)[:, None]), 1)

    return Net(how, body=seq(conv(1, 8, s=2), conv(8, 12, s=2), head(12, 16)))


def several() -> nn.Module:
    def how(n: Any, x: Tensor) -> Any:
        y = n.body(x)
        return n.age(y), n.kind(y).softmax(-1), n.body[0](x).mean((2, 3))

    body = seq(conv(1, 8, s=2), conv(8, 12, s=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Net(how, body=body, age=nn.Linear(12, 1), kind=nn.Linear(12, 3))


def factors() -> nn.Module:
    def how(n: Any, user: Tensor, item: Tensor) -> Any:
        y = (n.user(user) * n.item(item)).sum(-1) + n.bias(item)[..., 0]
        return torch.sigmoid(y) * 4 + 1

    user, item, bias = (nn.Embedding(50, size) for size in (8, 8, 1))
    return Net(how, user=user, item=item, bias=bias)


def convnext() -> nn.Module:
    def how(n: Any, x: Tensor) -> Any:
        return x + (n.scale * n.body(n.depth(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    body = seq(nn.LayerNorm(12), nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))
    depth, scale = nn.Conv2d(12, 12, 7, padding=3, groups=12), nn.Parameter(torch.ones(12) * 0.5)
    return seq(nn.Conv2d(3, 12, 4, 4), Net(how, body=body, depth=depth, scale=scale), head(12))


def last(rnn: nn.Module, size: int) -> nn.Module:
    return Net(lambda n, x: n.top(n.rnn(x)[0][:, -1]), rnn=rnn, top=nn.Linear(size, 4))


def activations(*kinds: nn.Module) -> nn.Module:
    parts = [p for kind in kinds for p in (nn.Conv2d(8, 8, 3, padding=1), kind)]
    return seq(conv(1, 8, s=2), *parts, head(8))


Entry = tuple[tuple[tuple[int, ...], ...], Callable[[], nn.Module]]
IMAGE, GREY = ((3, 32, 32),), ((1, 24, 24),)
NETWORKS: Mapping[str, Entry] = {
    "mobilenet_v1": (IMAGE, lambda: seq(
        conv(3, 8, s=2), separable(8, 16), separable(16, 24, 2), separable(24, 32, 2), head(32))),
    "mobilenet_v2": (IMAGE, lambda: seq(
        conv(3, 8, s=2, act=nn.ReLU6), inverted(8, 12, 4, 2), inverted(12, 12, 4),
        inverted(12, 16, 6, 2), conv(16, 48, 1), head(48))),
    "mobilenet_v3": (IMAGE, lambda: seq(
        conv(3, 8, s=2, act=nn.Hardswish),
        inverted(8, 8, 2, 2, 3, nn.ReLU, partial(excite, gate=nn.Hardsigmoid)),
        inverted(8, 12, 4, 2, 5, nn.Hardswish, partial(excite, gate=nn.Hardsigmoid)),
        head(12, 32), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(32, 10))),
    "mcunet": (((3, 40, 40),), lambda: seq(
        conv(3, 8, s=2, act=nn.ReLU6), inverted(8, 8, 3, 2, 7), inverted(8, 8, 4, 1, 5),
        inverted(8, 12, 5, 2, 7), inverted(12, 12, 4), head(12))),
    "resnet8": (IMAGE, lambda: seq(
        conv(3, 8, s=2), basic(8, 8), basic(8, 12, 2), basic(12, 16, 2), head(16))),
    "ds_cnn": (((1, 49, 10),), lambda: seq(
        nn.Conv2d(1, 16, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        separable(16, 16), separable(16, 16), nn.Dropout(0.4), head(16, 12))),
    "squeezenet": (IMAGE, lambda: seq(
        nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), squeezed(16, 4, 8),
        nn.MaxPool2d(3, 2, ceil_mode=True), squeezed(16, 6, 12), nn.Conv2d(24, 10, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten())),
    "shufflenet": (IMAGE, lambda: seq(
        conv(3, 8, s=2), beside(separable(8, 8, 2), seq(conv(8, 8, 1), separable(8, 8, 2))),
        shuffled(8), shuffled(8), conv(16, 32, 1), head(32))),
    "densenet": (IMAGE, lambda: seq(
        conv(3, 8, s=2), dense(8), dense(16), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 12, 1), nn.AvgPool2d(2), dense(12), nn.BatchNorm2d(20), nn.ReLU(), head(20))),
    "efficientnet": (IMAGE, lambda: seq(
        conv(3, 8, s=2, act=nn.SiLU), inverted(8, 12, 4, 2, 3, nn.SiLU, excite),
        inverted(12, 12, 4, 1, 5, nn.SiLU, excite), conv(12, 32, 1, act=nn.SiLU), head(32))),
    "ghostnet": (IMAGE, lambda: seq(
        conv(3, 16, s=2), residual(ghost(16, 32), excite(32, gate=nn.Hardsigmoid), ghost(32, 16)),
        conv(16, 16, s=2, groups=16), ghost(16, 24), head(24))),
    "repvgg": (IMAGE, lambda: seq(conv(3, 12, s=2), repvgg(12), conv(12, 16, s=2), head(16))),
    "unet": (((3, 24, 24),), lambda: u_shaped(nn.ConvTranspose2d(8, 8, 2, 2))),
    "unet_bilinear": (((3, 24, 24),), lambda: u_shaped(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))),
    "fcn": (((3, 24, 24),), fcn),
    "yolo": (IMAGE, yolo),
    "ssd": (IMAGE, ssd),
    "keypoints": (((1, 32, 32),), keypoints),
    "autoencoder_conv": (GREY, lambda: seq(
        conv(1, 8, s=2), conv(8, 12, s=2), nn.ConvTranspose2d(12, 8, 3, 2, 1, 1), nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 3, 2, 1, 1), nn.Sigmoid())),
    "vae_decoder": (((8,),), lambda: seq(
        nn.Linear(8, 256), nn.ReLU(), nn.Unflatten(1, (16, 4, 4)),
        nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Tanh())),
    "super_resolution": (((1, 16, 16),), lambda: seq(
        nn.Conv2d(1, 12, 5, padding=2), nn.Tanh(), nn.Conv2d(12, 9, 3, padding=1),
        nn.PixelShuffle(3))),
    "siamese": (GREY * 2, siamese),
    "several": (GREY, several),
    "convnext": (IMAGE, convnext),
    "mixer": (IMAGE, mixer),
    "vit": (IMAGE, vit),
    "group_norm": (GREY, lambda: seq(
        nn.Conv2d(1, 8, 3, 2, 1), nn.GroupNorm(4, 8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1),
        nn.InstanceNorm2d(8, affine=True), nn.ReLU(), nn.Conv2d(8, 8, 1),
        nn.GroupNorm(1, 8), head(8))),
    "lrn": (GREY, lambda: activations(nn.ReLU(), nn.LocalResponseNorm(3))),
    "prelu": (GREY, lambda: activations(nn.PReLU(8), nn.LeakyReLU(0.2), nn.PReLU())),
    "gelu": (GREY, lambda: activations(nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish())),
    "elu": (GREY, lambda: activations(nn.ELU(), nn.SELU(), nn.CELU(0.7), nn.Softplus())),
    "hard": (GREY, lambda: activations(
        nn.Hardswish(), nn.Hardtanh(-2, 2), nn.Hardsigmoid(), nn.Softsign(), nn.Hardshrink())),
    "adaptive": (((3, 21, 30),), lambda: seq(
        conv(3, 8, s=2), separable(8, 16), nn.AdaptiveAvgPool2d((3, 4)), nn.Flatten(),
        nn.Linear(192, 10))),
    "lenet": (((1, 28, 28),), lambda: seq(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 12, 5), nn.Tanh(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(300, 32), nn.Tanh(), nn.Linear(32, 10))),
    "autoencoder_dense": (((160,),), lambda: seq(
        nn.Linear(160, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 8), nn.BatchNorm1d(8),
        nn.ReLU(), nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 160))),
    "mlp_batchnorm": (((20,),), lambda: seq(
        nn.BatchNorm1d(20), nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5), nn.Softmax(1))),
    "regression": (((6,),), lambda: seq(
        nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))),
    "tcn": (((4, 64),), lambda: seq(
        causal(4, 8, 1), causal(8, 8, 2), causal(8, 8, 4),
        Net(lambda n, x: n.top(x[:, :, -1]), top=nn.Linear(8, 3)))),
    "kws_conv1d": (((13, 50),), lambda: seq(
        conv1(13, 16, 9, 2), nn.MaxPool1d(2), conv1(16, 16, 5), nn.AdaptiveMaxPool1d(1),
        nn.Flatten(), nn.Linear(16, 8), nn.LogSoftmax(-1))),
    "inception_time": (((3, 64),), lambda: seq(
        inception(3), residual(inception(16)), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(16, 4))),
    "ecg": (((1, 180),), lambda: seq(
        conv1(1, 8, 15, 2), residual(nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 15, padding=7)),
        nn.MaxPool1d(2), nn.Flatten(), nn.Linear(360, 5), nn.Softmax(-1))),
    "wav2vec": (((1, 400),), lambda: seq(
        nn.Conv1d(1, 8, 10, 5, bias=False), nn.GroupNorm(8, 8), nn.GELU(),
        nn.Conv1d(8, 8, 3, 2, bias=False), nn.GELU(), nn.Conv1d(8, 12, 2, 2, bias=False),
        nn.GELU(), Net(lambda n, x: n.norm(x.transpose(1, 2)), norm=nn.LayerNorm(12)))),
    "attention": (((10, 16),), lambda: Net(
        lambda n, x: n.a(x, x, x), a=nn.MultiheadAttention(16, 2, batch_first=True))),
    "transformer": (((12, 16),), lambda: encoder(16, 2)),
    "conformer": (((12, 16),), conformer),
    "lstm": (((16, 6),), lambda: last(nn.LSTM(6, 12, 2, batch_first=True), 12)),
    "gru": (((16, 6),), lambda: last(nn.GRU(6, 12, batch_first=True), 12)),
    "bidirectional": (((12, 6),), lambda: last(
        nn.LSTM(6, 8, batch_first=True, bidirectional=True), 16)),
    "rnn_states": (((12, 6),), lambda: Net(
        lambda n, x: n.rnn(x), rnn=nn.RNN(6, 10, batch_first=True))),
    "crnn": (((1, 16, 32),), crnn),
    "text": (((12,),), text),
    "causal_attention": (((10,),), causal_attention),
    "factors": (((), ()), factors),
}  # fmt: skip
IDS = {"text": 60, "causal_attention": 40, "factors": 50}  # inputs are below
RECURRENT = ("lstm", "gru", "bidirectional", "rnn_states", "crnn")
