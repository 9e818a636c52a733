"""Writes timm's whole seresnext101_32x4d with seeded values, one 224x224 image and its logits:

    python test/golden/timm_logits.py DIRECTORY

  seresnext101_32x4d.safetensors   the state dictionary under timm's names (196 MB, never committed)
  expected.safetensors             image [1, 224, 224, 3] f32, normalised NHWC; logits [1, 1000] f32 (computed in f64)

For an optional test on machines that have PyTorch and timm; see README.md for the environment."""
import pathlib
import sys

import timm_model
from files import save_tensors


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    model, _ = timm_model.whole()
    picture = timm_model.image(224, 21)
    timm_model.randomise(model, picture, 22)
    expected, error = timm_model.logits(model, picture)
    save_tensors(directory / 'seresnext101_32x4d.safetensors', model.state_dict())
    save_tensors(directory / 'expected.safetensors', {'image': picture, 'logits': expected})
    best = expected[0].topk(5)
    print(f'parameters {sum(p.numel() for p in model.parameters())}; f32 against f64: {error:.2e}')
    print('top 5:', [(i, round(v, 4)) for i, v in zip(best.indices.tolist(), best.values.tolist())])


if __name__ == '__main__':
    main()
