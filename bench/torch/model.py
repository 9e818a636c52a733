"""SE-ResNeXt101-32x4d in plain PyTorch: seconds and memory of inference and of a training step on the CPU.

Prints one JSON line per row: {"mode", "batch", "seconds_per_image", "peak_rss_mb", ...}. Each row is measured in a
process of its own, so that its peak memory is its own; load is the machine's load average, and a row taken while it is
above the number of threads measures the neighbours too. Needs PyTorch 2.0 or newer and nothing else:

    pip install torch && python bench/torch/model.py --batch 4
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import nn


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeeze: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, squeeze)
        self.expand = nn.Linear(squeeze, channels)

    def forward(self, x):
        scale = torch.sigmoid(self.expand(torch.relu(self.squeeze(x.mean((2, 3))))))
        return x * scale[:, :, None, None]


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, cardinality: int):
        super().__init__()
        outputs = width * 2
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.se = SqueezeExcite(outputs, outputs // 16)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        residual = x if self.shortcut is None else self.shortcut(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.se(self.bn3(self.conv3(y))) + residual)


def se_resnext101_32x4d(classes: int = 1000, depths: tuple[int, ...] = (3, 4, 23, 3)) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 64
    for stage, (depth, width) in enumerate(zip(depths, (128, 256, 512, 1024))):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(Bottleneck(inputs, width, stride, 32))
            inputs = width * 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def optimizer_of(model: nn.Module, **options) -> torch.optim.SGD:
    """The recipe's SGD: no weight decay on batch norms' scale and shift."""
    norms = [p for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    others = [p for p in model.parameters() if not any(p is q for q in norms)]
    groups = [{"params": others, "weight_decay": 6.103515625e-05}, {"params": norms, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=0.001, momentum=0.875, **options)


def runner(mode: str, model: nn.Module, images: torch.Tensor):
    """A function that does one inference or one whole training step."""
    if mode == "inference":
        model.eval()

        def infer():
            with torch.inference_mode():
                return model(images)

        return infer
    model.train()
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = optimizer_of(model)
    labels = torch.arange(images.shape[0]) % 1000

    def train():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return train


def measure(mode: str, batch: int, threads: int, layout: str, steps: int) -> dict:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    memory_format = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    model = se_resnext101_32x4d().to(memory_format=memory_format)
    parameters = sum(p.numel() for p in model.parameters())
    if parameters != 48_955_416:
        raise SystemExit(f"[model] expected 48955416 parameters, got {parameters}")
    run = runner(mode, model, torch.randn(batch, 3, 224, 224).to(memory_format=memory_format))
    run()
    run()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {
        "library": "torch",
        "version": torch.__version__,
        "mode": mode,
        "batch": batch,
        "layout": layout,
        "threads": threads,
        "seconds_per_image": round(statistics.median(seconds) / batch, 5),
        "load": round(os.getloadavg()[0], 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[4], help="batch sizes")
    parser.add_argument("--mode", nargs="+", choices=["inference", "training"], default=["inference", "training"])
    parser.add_argument("--layout", choices=["nhwc", "nchw"], default="nhwc")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="timed runs; the median is reported")
    parser.add_argument("--one", action="store_true", help="measure in this process: one mode and one batch")
    options = parser.parse_args()
    if options.one:
        row = measure(options.mode[0], options.batch[0], options.threads, options.layout, options.steps)
        print(json.dumps(row), flush=True)
        return
    for batch in options.batch:
        for mode in options.mode:
            own = ["--one", "--mode", mode, "--batch", str(batch), "--layout", options.layout]
            own += ["--threads", str(options.threads), "--steps", str(options.steps)]
            subprocess.run([sys.executable, __file__, *own], check=True)


if __name__ == "__main__":
    main()
