"""From sections to a plan: who reads whom, every shape, every float, checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from edgedet_models.darknet.activations import DARKNET_ACTIVATIONS
from edgedet_models.darknet.blocks import (
    ConvShape,
    DarknetConv,
    DarknetHead,
    GroupedRoute,
    MaxPool,
    Reorg,
    ScaleChannels,
    Shortcut,
    SpaceToDepth,
    Upsample,
)
from edgedet_models.darknet.cfg import Section
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.short import short

__all__ = ["HeadPlan", "LayerPlan", "NetworkPlan", "plan_network"]

Shape = tuple[int, int, int]
"""Channels, rows, columns."""


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """What a ``[yolo]`` or ``[region]`` layer says of its boxes.

    Attributes:
        anchors_px: Width and height per anchor, in input pixels.
        classes: Number of classes.
        stride: Input pixels per cell.
        scale_xy: Grid sensitivity.
        new_coords: Sizes are (2 * sigmoid)² * anchor instead of exp * anchor.
        softmax: Classes exclude each other (YOLOv2).
    """

    anchors_px: tuple[tuple[float, float], ...]
    classes: int
    stride: int
    scale_xy: float
    new_coords: bool
    softmax: bool


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One layer.

    Attributes:
        section: Where it stands in the cfg.
        inputs: Indices of the layers that it reads; -1 is the picture. Empty for a detection layer: its
            convolution does its work, and it only holds its number.
        shape: Of its output, at the cfg's own picture size.
        build: Makes its module.
        conv: Its convolution, where it has weights.
        head: Set where the following section is a detection layer, which this convolution feeds alone.
    """

    section: Section
    inputs: tuple[int, ...]
    shape: Shape
    build: Callable[[], nn.Module]
    conv: ConvShape | None = None
    head: HeadPlan | None = None


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """A whole network.

    Attributes:
        layers: In cfg order; a detection layer stands for the convolution before it.
        height: The cfg's picture height, in pixels.
        width: The cfg's picture width, in pixels.
    """

    layers: tuple[LayerPlan, ...]
    height: int
    width: int

    @property
    def heads(self) -> tuple[HeadPlan, ...]:
        """The detection layers in cfg order."""
        return tuple(layer.head for layer in self.layers if layer.head is not None)

    @property
    def floats(self) -> int:
        """Numbers that the weights file must hold."""
        return sum(layer.conv.floats for layer in self.layers if layer.conv is not None)


@dataclass(slots=True)
class _Planner:
    """The state while sections are planned one by one."""

    height: int
    width: int
    channels: int
    layers: list[LayerPlan]

    def shape(self, index: int) -> Shape:
        return (self.channels, self.height, self.width) if index < 0 else self.layers[index].shape

    @property
    def previous(self) -> int:
        return len(self.layers) - 1

    def sources(self, section: Section, key: str) -> tuple[int, ...]:
        """Resolve relative and absolute layer numbers."""
        result = []
        for number in section.integers(key):
            index = number + len(self.layers) if number < 0 else number
            if not 0 <= index < len(self.layers):
                raise section.error(f"{key}: expected earlier layers, 0..{self.previous}, got {number}", key)
            if self.layers[index].head is not None or not self.layers[index].inputs:
                raise section.error(f"{key}={number} reads a detection layer, which is not supported", key)
            result.append(index)
        return tuple(result)

    def same_size(self, section: Section, indices: tuple[int, ...], key: str) -> Shape:
        """Return the shape with the channels added up; rows and columns must agree."""
        shapes = [self.shape(i) for i in indices]
        if len({s[1:] for s in shapes}) != 1:
            raise section.error(f"{key}: expected layers of one size, got {shapes}", key)
        return sum(s[0] for s in shapes), *shapes[0][1:]


def _act(section: Section, default: str) -> str:
    name = section.text("activation", default)
    if name not in DARKNET_ACTIVATIONS:
        known = ", ".join(DARKNET_ACTIVATIONS)
        raise section.error(f"activation: expected one of {known}, got {short(name)}", "activation")
    return name


def _convolutional(section: Section, net: _Planner) -> LayerPlan:
    section.refuse("antialiasing", "binary", "xnor", "bin_output", "flipped", "coordconv", "reverse")
    section.refuse("sway", "rotate", "stretch", "stretch_sway", "share_index")
    c, h, w = net.shape(net.previous)
    filters = section.integer("filters", 1, low=1)
    kernel = section.integer("size", 1, low=1, high=31)
    stride = section.integer("stride", 1, low=1, high=32)
    strides = tuple(section.integer(f"stride_{a}", stride, low=1, high=32) for a in "yx")
    padding = kernel // 2 if section.integer("pad", 0) else section.integer("padding", 0, high=31)
    dilation = section.integer("dilation", 1, low=1, high=32) if kernel > 1 else 1
    groups = section.integer("groups", 1, low=1)
    if c % groups or filters % groups:
        raise section.error(f"groups: expected a divisor of {c} and {filters} channels, got {groups}", "groups")
    bn = bool(section.integer("batch_normalize", 0) or section.integer("cbn", 0))
    conv = ConvShape(
        c,
        filters,
        kernel,
        (strides[0], strides[1]),
        padding * dilation,
        dilation,
        groups,
        bn,
        _act(section, "logistic"),
    )
    reach = 2 * conv.padding - dilation * (kernel - 1) - 1
    rows, columns = (h + reach) // strides[0] + 1, (w + reach) // strides[1] + 1
    return LayerPlan(section, (net.previous,), (filters, rows, columns), lambda: DarknetConv(conv), conv)


def _maxpool(section: Section, net: _Planner) -> LayerPlan:
    section.refuse("maxpool_depth", "antialiasing", "maxpool_zero_nonmax")
    c, h, w = net.shape(net.previous)
    stride = section.integer("stride", 1, low=1, high=32)
    if any(section.integer(f"stride_{a}", stride) != stride for a in "xy"):
        raise section.error("stride_x and stride_y that differ are not supported")
    kernel = section.integer("size", stride, low=1, high=63)
    padding = section.integer("padding", kernel - 1, high=62)
    if not MaxPool.supports(kernel, stride, padding):
        raise section.error(f"size={kernel} stride={stride} padding={padding} is not supported", "size")
    shape = (c, (h + padding - kernel) // stride + 1, (w + padding - kernel) // stride + 1)
    if not (h % 2 or w % 2) and (kernel, stride, padding) == (2, 2, 1):
        padding = 0  # even sizes: the padding is never read
    return LayerPlan(section, (net.previous,), shape, lambda: MaxPool(kernel, stride, padding))


def _avgpool(section: Section, net: _Planner) -> LayerPlan:
    shape = (net.shape(net.previous)[0], 1, 1)
    return LayerPlan(section, (net.previous,), shape, lambda: nn.AdaptiveAvgPool2d(1))


def _route(section: Section, net: _Planner) -> LayerPlan:
    indices = net.sources(section, "layers")
    groups = section.integer("groups", 1, low=1)
    group_id = section.integer("group_id", 0)
    c, h, w = net.same_size(section, indices, "layers")
    if group_id >= groups or any(net.shape(i)[0] % groups for i in indices):
        raise section.error(f"expected group_id below groups and divisible channels, got {group_id}/{groups}, {c}")
    return LayerPlan(section, indices, (c // groups, h, w), lambda: GroupedRoute(groups, group_id))


def _shortcut(section: Section, net: _Planner) -> LayerPlan:
    section.refuse("weights_type")
    indices = (net.previous, *net.sources(section, "from"))
    net.same_size(section, indices, "from")
    act = _act(section, "linear")
    return LayerPlan(section, indices, net.shape(net.previous), lambda: Shortcut(act))


def _gate(section: Section, net: _Planner) -> LayerPlan:
    section.refuse("scale_wh")
    indices = (net.previous, *net.sources(section, "from"))
    gate, features = net.shape(indices[0]), net.shape(indices[1])
    if gate != ((features[0], 1, 1) if section.kind == "scale_channels" else features):
        raise section.error(f"expected a gate that fits {features}, got {gate}", "from")
    act = _act(section, "linear")
    return LayerPlan(section, indices[:2], features, lambda: ScaleChannels(act))


def _upsample(section: Section, net: _Planner) -> LayerPlan:
    c, h, w = net.shape(net.previous)
    stride = section.integer("stride", 2, low=1, high=8)
    scale = section.number("scale", 1.0)
    return LayerPlan(section, (net.previous,), (c, h * stride, w * stride), lambda: Upsample(stride, scale))


def _reorg(section: Section, net: _Planner) -> LayerPlan:
    section.refuse("reverse", "flatten", "extra")
    c, h, w = net.shape(net.previous)
    stride = section.integer("stride", 1, low=1, high=8)
    if h % stride or w % stride or (section.kind == "reorg" and c % stride**2):
        raise section.error(f"stride: expected a divisor of {h}x{w} (its square: of {c}), got {stride}", "stride")
    module = Reorg if section.kind == "reorg" else SpaceToDepth
    shape = (c * stride**2, h // stride, w // stride)
    return LayerPlan(section, (net.previous,), shape, lambda: module(stride))


def _activation(section: Section, net: _Planner) -> LayerPlan:
    act = _act(section, "linear")
    return LayerPlan(section, (net.previous,), net.shape(net.previous), DARKNET_ACTIVATIONS[act])


def _dropout(section: Section, net: _Planner) -> LayerPlan:
    return LayerPlan(section, (net.previous,), net.shape(net.previous), nn.Identity)


PLANNERS: Mapping[str, Callable[[Section, _Planner], LayerPlan]] = {
    "convolutional": _convolutional,
    "conv": _convolutional,
    "maxpool": _maxpool,
    "max": _maxpool,
    "avgpool": _avgpool,
    "avg": _avgpool,
    "route": _route,
    "shortcut": _shortcut,
    "scale_channels": _gate,
    "sam": _gate,
    "upsample": _upsample,
    "reorg": _reorg,
    "reorg3d": _reorg,
    "activation": _activation,
    "dropout": _dropout,
}


def _pairs(section: Section, unit: float) -> tuple[tuple[float, float], ...]:
    values = section.numbers("anchors")
    if len(values) % 2 or min(values) <= 0:
        raise section.error(f"anchors: expected positive width, height pairs, got {values}", "anchors")
    return tuple((w * unit, h * unit) for w, h in zip(values[::2], values[1::2], strict=True))


def _head_plan(section: Section, stride: int) -> HeadPlan:
    classes = section.integer("classes", 20, low=1, high=100_000)
    if section.kind == "region":
        section.refuse("tree", "map", "background")
        if section.integer("coords", 4) != 4 or not section.integer("softmax", 0):
            raise section.error("expected coords=4 and softmax=1, as YOLOv2 has them; others are not supported")
        anchors = _pairs(section, stride)
        num = section.integer("num", 1, low=1)
        if num > len(anchors):
            raise section.error(f"anchors: expected {num} pairs, got {len(anchors)}", "anchors")
        return HeadPlan(anchors[:num], classes, stride, 1.0, new_coords=False, softmax=True)
    anchors = _pairs(section, 1.0)
    mask = section.integers("mask") if "mask" in section.options else tuple(range(section.integer("num", 1)))
    if not mask or not all(0 <= m < len(anchors) for m in mask):
        raise section.error(f"mask: expected numbers of {len(anchors)} anchors, got {mask}", "mask")
    return HeadPlan(
        tuple(anchors[m] for m in mask),
        classes,
        stride,
        section.number("scale_x_y", 1.0),
        new_coords=bool(section.integer("new_coords", 0)),
        softmax=False,
    )


def _attach_head(section: Section, net: _Planner) -> None:
    """Turn the convolution before a detection layer into its head."""
    conv_layer = net.layers[-1] if net.layers else None
    conv = conv_layer.conv if conv_layer else None
    if conv_layer is None or conv is None or conv_layer.head is not None or conv.groups != 1:
        raise section.error("expected a plain [convolutional] section right before it")
    _, rows, columns = conv_layer.shape
    stride = net.height // rows
    if (rows * stride, columns * stride) != (net.height, net.width):
        raise section.error(f"expected cells that divide {net.height}x{net.width} px, got {rows}x{columns} cells")
    head = _head_plan(section, stride)
    anchors, classes = len(head.anchors_px), head.classes
    if conv.c_out != anchors * (5 + classes):
        raise conv_layer.section.error(
            f"filters: expected {anchors * (5 + classes)} for {anchors} anchors and {classes} classes of"
            f" [{section.kind}] in line {section.line}, got {conv.c_out}",
            "filters",
        )
    if head.new_coords:
        if conv.act != "logistic":
            raise conv_layer.section.error(
                f"activation: expected logistic before new_coords=1, got {conv.act}", "activation"
            )
        conv = replace(conv, act="linear")  # the decoder applies it
    net.layers[-1] = replace(
        conv_layer,
        conv=conv,
        head=head,
        build=lambda: DarknetHead(conv, anchors, classes, softmax=head.softmax),
    )
    # The detection layer has a number of its own, which later sections count with.
    net.layers.append(LayerPlan(section, (), conv_layer.shape, nn.Identity))


def plan_network(sections: tuple[Section, ...]) -> NetworkPlan:
    """Plan a network.

    Args:
        sections: As `parse_cfg` gives them.

    Raises:
        CheckpointError: A section or an option is not supported, or shapes contradict; the message names the
            line.
    """
    first = sections[0]
    height = first.integer("height", 0, low=32, high=8192)
    width = first.integer("width", 0, low=32, high=8192)
    if not height or not width or first.integer("channels", 3) != 3:
        raise first.error("expected width=, height= and channels=3")
    net = _Planner(height, width, 3, [])
    for section in sections[1:]:
        if section.kind in ("yolo", "region"):
            _attach_head(section, net)
            continue
        if section.kind not in PLANNERS:
            supported = ", ".join([*PLANNERS, "yolo", "region"])
            raise section.error(f"this section is not supported (supported: {supported})")
        if net.layers and not net.layers[-1].inputs and section.kind != "route":
            raise section.error("reads a detection layer, which is not supported; expected [route] first")
        layer = PLANNERS[section.kind](section, net)
        if min(layer.shape) < 1:
            raise section.error(f"expected a picture that is large enough, got an output of {layer.shape}")
        net.layers.append(layer)
    plan = NetworkPlan(tuple(net.layers), height, width)
    if not plan.heads:
        raise CheckpointError(f"{first.source}: expected a detector with [yolo] or [region] layers, got none")
    return plan
