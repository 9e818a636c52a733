"""Makes the golden files of this directory with PyTorch (about a minute):

    python3 -m venv oracle
    oracle/bin/pip install torch==2.13.0 numpy safetensors pillow --extra-index-url https://download.pytorch.org/whl/cpu
    oracle/bin/pip install --no-deps timm==1.0.29 torchvision pyyaml huggingface_hub packaging tqdm
    oracle/bin/python test/golden/make.py [primitives] [model] [timm] [training]

timm is needed for `timm` only, torchvision for `timm` and `training`. What the files hold: README.md."""
import sys

import torch

import model
import primitives
import timm_model
import training

PARTS = {'primitives': primitives.make, 'model': model.make, 'timm': timm_model.make, 'training': training.make}


def main():
    chosen = sys.argv[1:] or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        sys.exit(f'unknown part {unknown[0]}: expected some of {", ".join(PARTS)}')
    torch.set_num_threads(2)  # the number of threads changes the last bits of f32 sums
    for name in chosen:
        PARTS[name]()


if __name__ == '__main__':
    main()
