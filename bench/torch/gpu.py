"""SE-ResNeXt101-32x4d in PyTorch on a GPU, as a contender of `npm run bench:gpu`: eager or compiled, training or inference.

Speaks JSON lines over stdin and stdout, one answer for each request:

    {"do": "prepare", "warmup": 20}   builds the model and warms up
    {"do": "block", "steps": 10}      times steps behind one untimed step, no more than two of them in flight
    {"do": "finish"}                  tells the memory used, and ends

An answer is {"ok": true, ...} or {"ok": false, "kind": "out-of-memory" | "error", "error": "..."}. With --probe it only
tells what is installed. The model is timm's if timm has the very model, else the plain one of model.py. Best practice of
PyTorch's own guides: channels_last, cudnn.benchmark, autocast with GradScaler, fused SGD, 16-bit weights for inference,
batches of bytes copied from pinned memory at each step without waiting.
"""

import argparse
import json
import os
import sys
import threading
import time

import torch

from model import optimizer_of, se_resnext101_32x4d

PARAMETERS = 48_955_416
TYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "tf32": torch.float32}
# Steps that are enqueued before the oldest of them is waited for.
AHEAD = 2


def declare_operators():
    """Declares what torchvision's native part would define, so that it imports beside another build of PyTorch."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def timm_model():
    """timm's seresnext101_32x4d and its version; None where timm is missing, broken or has another model."""
    kept = None
    for attempt in range(2):
        try:
            import timm

            model = timm.create_model("seresnext101_32x4d")
            model.declared = kept
            return (model, timm.__version__) if count(model) == PARAMETERS else None
        except RuntimeError as error:
            if attempt == 1 or "torchvision::" not in str(error):
                return None
            kept = declare_operators()
        except Exception:  # noqa: BLE001 - whatever is wrong with timm, the plain model is the same network
            return None
    return None


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def build(name):
    """The model and where it is from."""
    if name == "tiny":
        return se_resnext101_32x4d(classes=10, depths=(1, 1, 1, 1)), "bench/torch/model.py, one block a stage"
    found = timm_model()
    if found is not None:
        return found[0], f"timm {found[1]}"
    model = se_resnext101_32x4d()
    if count(model) != PARAMETERS:
        raise SystemExit(f"[gpu] expected {PARAMETERS} parameters, got {count(model)}")
    return model, "bench/torch/model.py"


class Clock:
    """Events on a GPU; on a CPU, where nothing is asynchronous, the wall clock."""

    def __init__(self, device):
        self.cuda = device.type == "cuda"

    def mark(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True, blocking=True)
        event.record()
        return event

    def wait(self, mark):
        if self.cuda:
            mark.synchronize()

    def milliseconds(self, start, end):
        return start.elapsed_time(end) if self.cuda else (end - start) * 1000


class Contender:
    def __init__(self, options):
        self.options = options
        self.device = torch.device(options.device)
        self.clock = Clock(self.device)
        self.result = None

    def prepare(self, warmup):
        options, device = self.options, self.device
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
        self.free = self.free_bytes()
        began = time.perf_counter()
        model, source = build(options.model)
        model = model.to(device, memory_format=torch.channels_last)
        self.step = self.training(model) if options.mode == "training" else self.inference(model)
        self.batch = self.host_batch()
        self.copies = torch.cuda.Stream() if device.type == "cuda" else None
        first = time.perf_counter()
        self.step()
        self.value()
        ready = time.perf_counter()
        for _ in range(warmup - 1):
            self.step()
        value = self.value()
        # Only now, while the others are not there yet: the driver tells of all processes together.
        self.driver_bytes = self.free - self.free_bytes()
        return {
            "version": torch.__version__,
            "model": source,
            "compile_mode": self.compile_mode() if options.how == "compile" else None,
            "build_s": first - began,
            "first_step_s": ready - first,
            "warmup_s": time.perf_counter() - ready,
            "value": value,
        }

    def host_batch(self):
        """Bytes and labels in pinned memory."""
        size, batch = self.options.size, self.options.batch
        images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
        labels = torch.arange(batch) % (10 if self.options.model == "tiny" else 1000)
        return (images.pin_memory(), labels.pin_memory()) if self.device.type == "cuda" else (images, labels)

    def uploaded(self):
        """The batch on the device, copied beside what is being computed."""
        if self.device.type != "cuda":
            return self.batch
        current = torch.cuda.current_stream()
        with torch.cuda.stream(self.copies):
            parts = tuple(part.to(self.device, non_blocking=True) for part in self.batch)
        current.wait_stream(self.copies)
        for part in parts:
            part.record_stream(current)
        return parts

    def compile_mode(self):
        """Small batches of inference are bound by launches: there PyTorch's own answer is CUDA graphs."""
        small = self.options.mode == "inference" and self.options.batch <= 64 and self.device.type == "cuda"
        return "reduce-overhead" if small else "default"

    def compiled(self, function):
        if self.options.how != "compile":
            return function
        return torch.compile(function, mode=self.compile_mode())

    def normalised(self, dtype):
        """From bytes [n, h, w, c] to normalised images in channels_last."""
        mean = torch.tensor([0.485, 0.456, 0.406], device=self.device).view(1, 3, 1, 1) * 255
        std = torch.tensor([0.229, 0.224, 0.225], device=self.device).view(1, 3, 1, 1) * 255
        return lambda images: images.permute(0, 3, 1, 2).float().sub(mean).div(std).to(dtype)

    def training(self, model):
        options = self.options
        model.train()
        loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
        cuda = self.device.type == "cuda"
        optimizer = optimizer_of(model, fused=True) if cuda else optimizer_of(model)
        scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "f16" and cuda)
        normalise = self.normalised(torch.float32)
        forward = self.compiled(lambda images, labels: loss_of(model(normalise(images)), labels))
        mixed = options.precision != "tf32"

        def step():
            images, labels = self.uploaded()
            with torch.autocast(self.device.type, dtype=TYPES[options.precision], enabled=mixed):
                loss = forward(images, labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            self.result = loss.detach()

        return step

    def inference(self, model):
        dtype = TYPES[self.options.precision]
        model = model.eval().to(dtype=dtype)
        normalise = self.normalised(dtype)
        forward = self.compiled(lambda images: model(normalise(images)).float())
        graphs = self.options.how == "compile" and self.compile_mode() == "reduce-overhead"

        def step():
            with torch.inference_mode():
                images, _ = self.uploaded()
                if graphs:
                    torch.compiler.cudagraph_mark_step_begin()
                self.result = forward(images)

        return step

    def value(self):
        """The mean of the last result: waits for everything."""
        return float(self.result.float().mean().item())

    def block(self, steps):
        """One untimed step, then `steps` timed ones."""
        marks, host, seen = [], [], []
        for index in range(steps + 1):
            if index >= AHEAD:
                self.clock.wait(marks[index - AHEAD])
                seen.append(time.perf_counter())
            start = time.perf_counter()
            self.step()
            host.append((time.perf_counter() - start) * 1000)
            marks.append(self.clock.mark())
        for mark in marks[len(seen) :]:
            self.clock.wait(mark)
            seen.append(time.perf_counter())
        pairs = range(1, steps + 1)
        return {
            "events_ms": [self.clock.milliseconds(marks[i - 1], marks[i]) for i in pairs],
            "wall_ms": [(seen[i] - seen[i - 1]) * 1000 for i in pairs],
            "host_ms": host[1:],
            "value": self.value(),
        }

    def free_bytes(self):
        return torch.cuda.mem_get_info()[0] if self.device.type == "cuda" else 0

    def finish(self):
        if self.device.type != "cuda":
            return {"peak_bytes": 0, "driver_bytes": 0}
        return {
            "peak_bytes": torch.cuda.max_memory_allocated(),
            "reserved_bytes": torch.cuda.max_memory_reserved(),
            "alloc_retries": torch.cuda.memory_stats().get("num_alloc_retries", 0),
            "driver_bytes": self.driver_bytes,
        }


def probe():
    """What is installed here."""
    cuda = torch.cuda.is_available()
    found = timm_model()
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
        "cudnn": torch.backends.cudnn.version(),
        "timm": None if found is None else found[1],
    }


def leave_with_parent():
    """Nobody is left behind: ends when the process that started this one is gone."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def failure(error):
    text = f"{type(error).__name__}: {error}"
    memory = isinstance(error, torch.OutOfMemoryError) or "out of memory" in text.lower()
    return {"ok": False, "kind": "out-of-memory" if memory else "error", "error": text[:2000]}


def serve(options, answers):
    contender = Contender(options)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "prepare":
                answer = contender.prepare(request["warmup"])
            elif request["do"] == "block":
                answer = contender.block(request["steps"])
            else:
                answer = contender.finish()
            answer = {"ok": True, **answer}
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is the answer
            answer = failure(error)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if request["do"] == "finish":
            return


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--how", choices=["eager", "compile"], default="eager")
    parser.add_argument("--mode", choices=["training", "inference"], default="training")
    parser.add_argument("--precision", choices=list(TYPES), default="f16")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--model", choices=["se-resnext101-32x4d", "tiny"], default="se-resnext101-32x4d")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script where there is no GPU")
    parser.add_argument("--probe", action="store_true", help="tell what is installed, and end")
    options = parser.parse_args()
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    threading.Thread(target=leave_with_parent, daemon=True).start()
    if options.probe:
        answers.write(json.dumps(probe()) + "\n")
        answers.flush()
        return
    serve(options, answers)


if __name__ == "__main__":
    main()
