"""The small SE-ResNeXt in PyTorch, as a function of a dictionary of tensors under NVIDIA's names and layout, and its
seeded initial values. The golden files made from it are written by model.py."""
import torch
import torch.nn.functional as F

VARIANTS = {
    # SE width out / 16 (the SENet paper, timm) and the recipe's weight decay.
    'paper': {'widths': [32, 32, 64, 128], 'squeezeRatio': 16, 'squeezeWidth': None, 'weightDecay': 6.103515625e-05,
              'seed': 57},
    # SE width 16 in every block (NVIDIA's code); a weight decay whose effect on five steps is far above 1e-4, so that
    # a wrong mask or a missing decay shows.
    'nvidia': {'widths': [32, 64, 64, 128], 'squeezeRatio': None, 'squeezeWidth': 16, 'weightDecay': 0.03125,
               'seed': 349},
}

CONFIG = {
    'blocks': [2, 1, 1, 1],
    'expansion': 2,
    'cardinality': 32,
    'stem': 16,
    'classes': 10,
    'imageSize': 40,
    'batch': 4,
}


def squeeze_width(variant, channels):
    return variant['squeezeWidth'] or channels // variant['squeezeRatio']


def initial(variant, seed):
    """Seeded f32 values of all parameters and running statistics, none of them trivial."""
    generator = torch.Generator().manual_seed(seed)
    values = {}

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(shape, generator=generator)

    def conv(name, out, inner, size):
        values[f'{name}.weight'] = normal(out, inner, size, size) * (2 / (inner * size * size)) ** 0.5

    def norm(name, channels):
        values[f'{name}.weight'] = uniform(0.6, 1.4, channels)
        values[f'{name}.bias'] = 0.25 * normal(channels)
        values[f'{name}.running_mean'] = 0.3 * normal(channels)
        values[f'{name}.running_var'] = uniform(0.5, 2.0, channels)

    def linear(name, out, inner, bias=0.0):
        values[f'{name}.weight'] = uniform(-1, 1, out, inner) * inner**-0.5
        values[f'{name}.bias'] = bias + uniform(-1, 1, out) * inner**-0.5

    conv('conv1', CONFIG['stem'], 3, 7)
    norm('bn1', CONFIG['stem'])
    channels = CONFIG['stem']
    for stage, (count, width) in enumerate(zip(CONFIG['blocks'], variant['widths'], strict=True)):
        out = width * CONFIG['expansion']
        for block in range(count):
            name = f'layers.{stage}.{block}'
            conv(f'{name}.conv1', width, channels, 1)
            norm(f'{name}.bn1', width)
            conv(f'{name}.conv2', width, width // CONFIG['cardinality'], 3)
            norm(f'{name}.bn2', width)
            conv(f'{name}.conv3', out, width, 1)
            norm(f'{name}.bn3', out)
            squeezed = squeeze_width(variant, out)
            linear(f'{name}.squeeze.squeeze', squeezed, out, 0.5)  # keeps the few hidden units alive
            linear(f'{name}.squeeze.expand', out, squeezed)
            if block == 0:
                conv(f'{name}.downsample.0', out, channels, 1)
                norm(f'{name}.downsample.1', out)
            channels = out
    linear('fc', CONFIG['classes'], channels)
    return values


def is_statistic(name):
    return name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))


def is_norm(name):
    """Whether a name belongs to a batch norm: bnN, or the second part of a shortcut."""
    owner = name.split('.')[-2]
    return owner.startswith('bn') or name.rsplit('.', 1)[0].endswith('downsample.1')


class Kinks:
    """What a forward pass meets at its kinks, by site: the inputs of every ReLU, and the gap between the two largest
    of every max-pool window that matters, channels last. Where these are no larger than f32's error, two correct
    programs may differ in a whole gradient element."""

    def __init__(self):
        self.sites = []
        self.hidden_alive = True

    def relu(self, x):
        self.sites.append(x.detach() if x.dim() == 2 else x.detach().permute(0, 2, 3, 1))
        return x.relu()

    def hidden_relu(self, x):
        self.hidden_alive &= bool((x > 0).any(0).all())
        return self.relu(x)

    def max_pool(self, x):
        n, c, _, _ = x.shape
        windows = F.unfold(F.pad(x.detach(), (1, 1, 1, 1)), 3, stride=2).reshape(n, c, 9, -1)
        top = windows.topk(2, dim=2).values
        gaps = torch.where(top[:, :, 0] > 0, top[:, :, 0] - top[:, :, 1], 1.0)
        self.sites.append(gaps.permute(0, 2, 1))
        return F.max_pool2d(x, 3, 2, 1)


def kink_distance(exact, rough):
    """The smallest distance of `exact` from a kink in units of the error of `rough`: root mean square, by channel."""
    smallest = float('inf')
    for a, b in zip(exact.sites, rough.sites, strict=True):
        a, b = a.flatten(0, -2), b.double().flatten(0, -2)
        error = (a - b).square().mean(0).sqrt().clamp(min=1e-9)
        smallest = min(smallest, (a.abs().amin(0) / error).min().item())
    return smallest


def forward(values, images, training, kinks=None):
    """Logits [n, classes] of NHWC images; with `training` the running statistics in `values` are updated in place."""
    kinks = kinks or Kinks()

    def conv(name, x, stride=1):
        weight = values[f'{name}.weight']
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, x.shape[1] // weight.shape[1])

    def norm(name, x):
        mean, variance = values[f'{name}.running_mean'], values[f'{name}.running_var']
        return F.batch_norm(x, mean, variance, values[f'{name}.weight'], values[f'{name}.bias'], training, 0.1, 1e-5)

    def linear(name, x):
        return F.linear(x, values[f'{name}.weight'], values[f'{name}.bias'])

    def bottleneck(name, x, stride):
        y = kinks.relu(norm(f'{name}.bn1', conv(f'{name}.conv1', x)))
        y = kinks.relu(norm(f'{name}.bn2', conv(f'{name}.conv2', y, stride)))
        y = norm(f'{name}.bn3', conv(f'{name}.conv3', y))
        hidden = kinks.hidden_relu(linear(f'{name}.squeeze.squeeze', y.mean((2, 3))))
        y = y * linear(f'{name}.squeeze.expand', hidden).sigmoid()[:, :, None, None]
        if f'{name}.downsample.0.weight' in values:
            x = norm(f'{name}.downsample.1', conv(f'{name}.downsample.0', x, stride))
        return kinks.relu(x + y)

    x = kinks.relu(norm('bn1', conv('conv1', images.permute(0, 3, 1, 2), 2)))
    x = kinks.max_pool(x)
    for stage in range(4):
        block = 0
        while f'layers.{stage}.{block}.conv1.weight' in values:
            x = bottleneck(f'layers.{stage}.{block}', x, 2 if stage > 0 and block == 0 else 1)
            block += 1
    return linear('fc', x.mean((2, 3)))
