"""SE-ResNeXt made by timm's own classes, with seeded values that are nowhere trivial: the whole seresnext101_32x4d for
timm_logits.py, and a tiny one of the same class that is small enough to commit."""
import functools

import torch

from files import HERE, provenance, relative_error, save_json, save_tensors, significant

SMALL = {'layers': (1, 1, 1, 1), 'channels': (16, 16, 32, 32), 'cardinality': 32, 'base_width': 4, 'num_classes': 10}


@functools.cache
def declare_operators():
    """Declares the two operators that torchvision's native part would define, so that it imports beside a CPU build."""
    library = torch.library.Library('torchvision', 'DEF')
    for op in ['nms', 'qnms']:
        library.define(op + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    return library  # the declarations live as long as this


def import_timm():
    """timm, importable."""
    declare_operators()
    import timm
    return timm


def small():
    """timm's ResNet with squeeze-and-excitation at exactly out / 16, as seresnext101_32x4d has it."""
    timm = import_timm()
    from timm.layers.squeeze_excite import SEModule
    from timm.models.resnet import Bottleneck, ResNet
    return ResNet(Bottleneck, block_args={'attn_layer': functools.partial(SEModule, rd_divisor=1)}, **SMALL), timm


def whole():
    """timm's seresnext101_32x4d."""
    timm = import_timm()
    return timm.create_model('seresnext101_32x4d'), timm


def image(size, seed):
    """One normalised image [1, h, w, c] with structure at several scales."""
    generator = torch.Generator().manual_seed(seed)
    planes = torch.zeros(1, 3, size, size)
    for cells in [2, 5, 11, 23]:
        coarse = torch.randn(1, 3, cells, cells, generator=generator)
        planes += 0.6 * torch.nn.functional.interpolate(coarse, size=(size, size), mode='bilinear')
    return (planes * 64).round().permute(0, 2, 3, 1).contiguous() / 64


@torch.no_grad()
def randomise(model, picture, seed):
    """Draws every parameter, then sets the running statistics near those of `picture`, off by a seeded amount, so
    that activations keep their size through all layers and no statistic is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(shape, low, high):
        return low + (high - low) * torch.rand(shape, generator=generator)

    for name, value in model.named_parameters():
        if value.dim() >= 2:
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
        elif 'bn' in name or 'downsample.1' in name:
            low, high = (0.6, 1.4) if name.endswith('weight') else (-0.4, 0.4)
            value.copy_(uniform(value.shape, low, high))
        else:
            value.copy_(uniform(value.shape, -0.2, 0.4))

    def calibrate(norm, inputs):
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3))
        variance = variance.clamp(min=1e-2)
        norm.running_mean.copy_(mean + 0.2 * variance.sqrt() * torch.randn(mean.shape, generator=generator))
        norm.running_var.copy_(variance * uniform(variance.shape, 0.6, 1.6))

    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(calibrate) for norm in norms]
    model.eval()(picture.permute(0, 3, 1, 2))
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def logits(model, picture):
    """The evaluation logits in f64, and PyTorch's own f32 error."""
    model.eval()
    rough = model.float()(picture.permute(0, 3, 1, 2))
    exact = model.double()(picture.double().permute(0, 3, 1, 2))
    model.float()
    return exact, relative_error(rough, exact)


def renamed(name):
    """timm's name of a tensor as NVIDIA's."""
    for stage in range(4):
        name = name.replace(f'layer{stage + 1}.', f'layers.{stage}.')
    return name.replace('se.fc1', 'squeeze.squeeze').replace('se.fc2', 'squeeze.expand')


def make():
    """Writes timm-small.safetensors (as timm saves it), its expected logits, and the JSON record."""
    import seresnext

    model, timm = small()
    picture = image(64, 11)
    randomise(model, picture, 12)
    expected, error = logits(model, picture)
    values = {renamed(k): (v.flatten(1) if '.se.fc' in k and v.dim() == 4 else v).double()
              for k, v in model.state_dict().items() if not k.endswith('num_batches_tracked')}
    own = seresnext.forward(values, picture.double(), training=False)
    assert relative_error(own, expected) < 1e-12, 'seresnext.py and timm disagree'
    save_tensors(HERE / 'timm-small.safetensors', model.state_dict())
    save_tensors(HERE / 'timm-small-expected.safetensors', {'image': picture, 'logits': expected})
    save_json(HERE / 'timm-small.json', {
        **provenance(), 'timm': timm.__version__, 'weights': 'timm-small.safetensors',
        'expected': 'timm-small-expected.safetensors',
        'config': {'blocks': SMALL['layers'], 'widths': [2 * c for c in SMALL['channels']], 'expansion': 2,
                   'cardinality': 32, 'stem': 64, 'classes': SMALL['num_classes'], 'squeezeRatio': 16,
                   'squeezeWidth': None, 'imageSize': 64, 'batch': 1},
        'torchF32Error': significant(error),
    })
    print(f'  logits {[round(v, 3) for v in expected[0].tolist()]}; f32 against f64: {error:.2e}')
