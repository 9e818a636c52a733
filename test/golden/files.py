"""Writing golden files: safetensors plus a JSON sidecar, and the one measure of error used everywhere.
What goes into them is decided by the other files here."""
import json
import pathlib

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent


def relative_error(a, b):
    """norm(a - b) / norm(b), in f64; 0 when both are zero."""
    a, b = a.double(), b.double()
    difference, size = (a - b).norm().item(), b.norm().item()
    return 0.0 if difference == 0 else difference / size if size > 0 else float('inf')


def significant(value, digits=3):
    """A float rounded for reading: 1.234567e-7 -> 1.23e-07."""
    return float(f'{value:.{digits}g}')


def save_tensors(path, tensors):
    """Saves f64 as f32 and everything else as it is, contiguous, names sorted by the library."""
    single = {name: t.float() if t.dtype == torch.float64 else t for name, t in tensors.items()}
    stored = {name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in single.items()}
    save_file(stored, str(path))
    path.chmod(0o644)
    print(f'{path.name}: {len(stored)} tensors, {path.stat().st_size / 1e6:.2f} MB')


def save_json(path, document):
    """Saves a record; lists of records take one line an entry, so that a change is a readable diff."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            body = '[\n' + ',\n'.join('    ' + json.dumps(entry) for entry in value) + '\n  ]'
        elif isinstance(value, dict) and len(value) > 8:
            body = '{\n' + ',\n'.join(f'    {json.dumps(k)}: {json.dumps(v)}' for k, v in value.items()) + '\n  }'
        else:
            body = json.dumps(value)
        lines.append(f'  {json.dumps(key)}: {body}')
    path.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
    print(f'{path.name}: {path.stat().st_size / 1e3:.1f} kB')


def provenance():
    """What made the numbers."""
    return {'by': 'test/golden/make.py', 'torch': torch.__version__}
