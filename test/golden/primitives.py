"""Golden values of single operations: inputs, outputs, a cotangent per output, the gradient of each input.
Layouts are ours (NHWC, filters [out, h, w, in / groups]); the cases themselves are in cases.py.

Every input and cotangent is a multiple of 1/64 below 4 (times a power of two), hence exact in f32, f16 and bf16.
Results are computed in f64 and stored in f32."""
import zlib

import torch

from files import HERE, provenance, relative_error, save_json, save_tensors, significant


class Draws:
    """Seeded values that 16-bit floats hold exactly; each case has its own stream, so adding one moves no other."""

    def __init__(self, name):
        self.generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normal(self, *shape, scale=1.0, mean=0.0):
        """Normal values on the grid of 1/64 in (-4, 4), times `scale` (a power of two), plus `mean`, as bf16 holds it."""
        x = torch.randn(shape, generator=self.generator, dtype=torch.float64).clamp(-3.9, 3.9)
        return (((x * 64).round() / 64) * scale + mean).bfloat16().double()

    def positive(self, *shape):
        """Values on the grid of 1/64 from 1/4 to below 4."""
        return torch.randint(16, 256, shape, generator=self.generator).double() / 64

    def distinct(self, *shape):
        """At most 255 values, no two equal, none zero, on the grid of 1/64."""
        count = torch.Size(shape).numel()
        assert count <= 255, 'bf16 holds no more distinct values on this grid'
        values = torch.cat([torch.arange(-128, 0), torch.arange(1, 128)])
        order = torch.randperm(255, generator=self.generator)[:count]
        return (values[order].double() / 64).reshape(shape)

    def integers(self, low, high, *shape):
        """Uniform integers in [low, high), as i32."""
        return torch.randint(low, high, shape, generator=self.generator).int()

    def permutation(self, count):
        """0 .. count - 1 in random order, as i32."""
        return torch.randperm(count, generator=self.generator).int()


def evaluate(function, inputs, cotangents, dtype):
    """Outputs, and the gradient of each floating input (None for integers), in `dtype`."""
    leaves = {k: v.to(dtype).requires_grad_() if v.is_floating_point() else v for k, v in inputs.items()}
    outputs = function(**leaves)
    pairs = [(outputs[k], c.to(dtype)) for k, c in cotangents.items()]
    wanted = {k: v for k, v in leaves.items() if v.is_floating_point()}
    found = torch.autograd.grad([o for o, _ in pairs], list(wanted.values()), [c for _, c in pairs], allow_unused=True)
    return {k: v.detach() for k, v in outputs.items()}, dict(zip(wanted, found))


def record(case, tensors):
    """Evaluates one case in f64 and f32, adds its tensors, and returns its JSON entry."""
    name, draws = case['name'], Draws(case['name'] + ' cotangent')
    inputs, function = case['inputs'], case['function']
    with torch.no_grad():
        shapes = function(**{k: v.double() if v.is_floating_point() else v for k, v in inputs.items()})
    carried = case.get('differentiable') or list(shapes)
    cotangents = {k: draws.normal(*shapes[k].shape) for k in carried}
    outputs, gradients = evaluate(function, inputs, cotangents, torch.float64)
    outputs32, gradients32 = evaluate(function, inputs, cotangents, torch.float32)
    error = {}

    def put(kind, key, value, single=None):
        if value is None:
            return None
        full = f'{name}/{kind}{key}'
        tensors[full] = value
        if single is not None:
            error[full] = significant(relative_error(single, value))
        return full

    entry = {
        'name': name,
        'op': case['op'],
        'params': case['params'],
        'inputs': [put('', k, v) for k, v in inputs.items()],
        'outputs': [put('', k, v, outputs32[k]) for k, v in outputs.items()],
        'cotangents': [put('cotangent.', k, cotangents.get(k)) for k in outputs],
        'gradients': [put('gradient.', k, gradients.get(k), gradients32.get(k)) for k in inputs],
    }
    if 'ties' in case:
        entry['ties'] = case['ties']
    return {**entry, 'torchF32Error': error}


def make():
    """Writes primitives.safetensors and primitives.json."""
    from cases import cases

    tensors, entries = {}, []
    for case in cases():
        entries.append(record(case, tensors))
    names = [e['name'] for e in entries]
    assert len(set(names)) == len(names), 'case names must be unique'
    for key, value in tensors.items():
        assert torch.isfinite(value.double()).all(), key
        assert value.double().abs().max() > 0, f'{key} is all zero: a test on it could not fail'
    save_tensors(HERE / 'primitives.safetensors', tensors)
    save_json(HERE / 'primitives.json', {**provenance(), 'tensors': 'primitives.safetensors', 'cases': entries})
    worst = max((e, k) for entry in entries for k, e in entry['torchF32Error'].items())
    print(f'  {len(entries)} cases; torch f32 against f64, worst: {worst[0]:.2e} at {worst[1]}')
