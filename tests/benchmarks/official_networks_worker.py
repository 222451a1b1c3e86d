"""The official side of `official_networks`: ``NAME FOLDER``; needs ultralytics, not edgedet.

Writes ``best.pt`` as the official trainer saves it, and ``outputs.npz`` with ``input``, ``params``, ``gflops`` (at
640 px, by the official count) and the raw heads ``<head> <number>``, boxes and classes of each level in turn.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

CHANGES = {"relu": {"activation": "nn.ReLU()"}, "leaky": {"activation": "torch.nn.LeakyReLU(0.1)"}}
CLASSES = 80


def main() -> None:
    """Build, save and run one network."""
    torch: Any = importlib.import_module("torch")
    tasks: Any = importlib.import_module("ultralytics.nn.tasks")
    name, _, change = sys.argv[1].partition("+")
    folder = Path(sys.argv[2])
    torch.manual_seed(0)
    channels = 1 if change == "gray" else 3
    described = {**tasks.yaml_model_load(f"{name}.yaml"), **CHANGES.get(change, {})}
    network = tasks.DetectionModel(described, ch=channels, nc=CLASSES, verbose=False)
    randomize(torch, network)
    if change == "fused":
        network.eval().fuse(verbose=False)
    params = sum(p.numel() for p in network.parameters())
    utils: Any = importlib.import_module("ultralytics.utils.torch_utils")
    costs = {"params": params, "gflops": utils.get_flops(network.eval())}
    network = network.half()
    network.args = {"task": "detect", "imgsz": 640}
    torch.save({"epoch": -1, "model": network, "ema": None, "train_args": {"imgsz": 640}}, folder / "best.pt")
    run(torch, network.float(), channels, costs, folder / "outputs.npz")


def randomize(torch: Any, network: Any) -> None:
    """Give BatchNorms statistics and learned factors a size at which a wrong fold or a missing term shows."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.uniform_(layer.bias, -0.2, 0.2)
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)


def run(torch: Any, network: Any, channels: int, costs: dict[str, float], target: Path) -> None:
    """Run up to the head, then each chain of both heads, and store what they give."""
    import numpy as np

    side = int(max(network.stride))
    pictures = torch.rand(1, channels, 2 * side, 3 * side)
    head = network.model[-1]
    seen: list[Any] = []
    hook = head.register_forward_pre_hook(lambda _module, inputs: seen.append(list(inputs[0])))
    arrays: dict[str, Any] = {"input": pictures.numpy(), **costs}
    with torch.no_grad():
        network(pictures)
        hook.remove()
        pairs = {"one-to-many": ("cv2", "cv3"), "one-to-one": ("one2one_cv2", "one2one_cv3")}
        for name, pair in pairs.items():
            chains: list[Any] = [getattr(head, part, None) for part in pair]
            if None in chains:
                continue
            outputs = [chain[level](x) for level, x in enumerate(seen[0]) for chain in chains]
            arrays |= {f"{name} {number}": output.numpy() for number, output in enumerate(outputs)}
    np.savez(target, **arrays)


if __name__ == "__main__":
    main()
