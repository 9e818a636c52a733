"""Golden values around the model: SGD trajectories, learning-rate schedules, the dynamic loss scale, and the boxes of
evaluation's resize and centre crop."""
import math

import torch

import timm_model
from files import HERE, provenance, save_json

SGD = {
    'plain': {},
    'momentum': {'momentum': 0.875},
    'momentum-decay': {'momentum': 0.875, 'weight_decay': 0.0625},
    'decay': {'weight_decay': 0.0625},
    'nesterov': {'momentum': 0.9, 'nesterov': True},
    'nesterov-decay': {'momentum': 0.9, 'nesterov': True, 'weight_decay': 6.103515625e-05},
}
RATES = [0.5, 0.5, 0.25, 0.25, 0.125, 0.0625]


def sgd(name, options):
    """A few steps of torch.optim.SGD in f64 on seeded gradients, with a rate that changes on the way."""
    generator = torch.Generator().manual_seed(5)
    initial = (torch.randn(6, generator=generator).double() * 64).round() / 64
    parameter = initial.clone().requires_grad_()
    optimizer = torch.optim.SGD([parameter], lr=RATES[0], dampening=0, **options)
    gradients, parameters, buffers = [], [], []
    for rate in RATES:
        optimizer.param_groups[0]['lr'] = rate
        parameter.grad = (torch.randn(6, generator=generator).double() * 64).round() / 64
        gradients.append(parameter.grad.tolist())
        optimizer.step()
        parameters.append(parameter.tolist())
        buffer = optimizer.state[parameter].get('momentum_buffer')
        buffers.append(None if buffer is None else buffer.tolist())
    return {'name': name, 'momentum': options.get('momentum', 0), 'nesterov': options.get('nesterov', False),
            'dampening': 0, 'weightDecay': options.get('weight_decay', 0), 'learningRates': RATES,
            'initial': initial.tolist(), 'gradients': gradients, 'parameters': parameters, 'momentumBuffers': buffers}


def learning_rate(kind, epoch, rate, warmup, epochs, end=0.0, steps=(30, 60, 80), decay=0.1):
    """The reference's schedules, per epoch: e and E count from the end of the warm-up; `step` counts from the start."""
    if epoch < warmup:
        return rate * (epoch + 1) / warmup
    e, total = epoch - warmup, epochs - warmup
    if kind == 'cosine':
        return end + 0.5 * (1 + math.cos(math.pi * e / total)) * (rate - end)
    if kind == 'linear':
        return rate * (1 - e / total)
    return rate * decay ** sum(epoch >= s for s in steps)


def schedule(kind, rate, warmup, epochs, end=0.0):
    places = [*range(warmup + 2), 10, 29, 30, 45, 59, 60, 79, 80, epochs - 2, epochs - 1]
    sampled = sorted({epoch for epoch in places if epoch < epochs})
    values = [[epoch, learning_rate(kind, epoch, rate, warmup, epochs, end)] for epoch in sampled]
    own = {'cosine': {'endLearningRate': end}, 'step': {'steps': [30, 60, 80], 'decay': 0.1}, 'linear': {}}[kind]
    return {'kind': kind, 'learningRate': rate, 'warmup': warmup, 'epochs': epochs, **own, 'values': values}


def loss_scale(name, script, **options):
    """torch.amp.GradScaler driven by a script: '.' is a finite gradient, 'i' an infinite one, 'n' a NaN."""
    settings = {'init_scale': 1024.0, 'growth_factor': 2.0, 'backoff_factor': 0.5, 'growth_interval': 3, **options}
    scaler = torch.amp.GradScaler('cpu', **settings)
    parameter = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    steps = []
    for mark in script:
        used = scaler.scale(torch.ones(())).item()
        parameter.grad = torch.ones(3)
        parameter.grad[1] = {'.': 1.0, 'i': math.inf, 'n': math.nan}[mark]
        before = parameter.detach().clone()
        scaler.step(optimizer)
        scaler.update()
        state = scaler.state_dict()
        steps.append({'finite': mark == '.', 'usedScale': used, 'stepped': not torch.equal(before, parameter.detach()),
                      'scale': state['scale'], 'goodSteps': state['_growth_tracker']})
        assert steps[-1]['stepped'] == steps[-1]['finite']
    return {'name': name, 'init': settings['init_scale'], 'growth': settings['growth_factor'],
            'backoff': settings['backoff_factor'], 'interval': settings['growth_interval'], 'steps': steps}


SIZES = [(256, 256), (224, 224), (64, 64), (96, 96), (500, 375), (375, 500), (333, 500), (500, 333), (480, 640), (640, 480),
         (257, 300), (300, 257), (255, 300), (256, 341), (341, 256), (256, 1000), (1000, 256), (100, 101), (101, 100), (32, 48),
         (1, 7), (3, 2), (768, 1024), (1080, 1920), (1333, 2000), (281, 400), (96, 97), (96, 99), (99, 96), (600, 601), (427, 640)]


def crop_boxes(shorter, crop):
    """The arithmetic of torchvision's Resize(shorter) and CenterCrop(crop): rounds half to even, and truncates."""
    timm_model.declare_operators()
    import torchvision.transforms.functional as transforms

    cases = []
    for height, width in SIZES:
        resized = transforms._compute_resized_output_size((height, width), [shorter])
        rows, columns = torch.meshgrid(torch.arange(resized[0]), torch.arange(resized[1]), indexing='ij')
        corner = transforms.center_crop(torch.stack([rows, columns]), [crop, crop])[:, 0, 0]
        cases.append({'shorter': shorter, 'crop': crop, 'height': height, 'width': width,
                      'resizedHeight': resized[0], 'resizedWidth': resized[1],
                      'top': corner[0].item(), 'left': corner[1].item()})
    return cases


def make():
    """Writes optimizers.json and augment.json."""
    save_json(HERE / 'optimizers.json', {
        **provenance(),
        'sgd': [sgd(name, options) for name, options in SGD.items()],
        'schedules': [schedule('cosine', 0.256, 0, 90), schedule('cosine', 1.024, 8, 90),
                      schedule('cosine', 0.256, 5, 250, 0.001), schedule('cosine', 0.1, 1, 3),
                      schedule('step', 0.256, 0, 90), schedule('step', 1.024, 8, 90),
                      schedule('linear', 0.256, 0, 90), schedule('linear', 1.024, 8, 90)],
        'lossScales': [loss_scale('mixed', '...i..n....ii.......n'),
                       loss_scale('reference', '.' * 5 + 'i' + '.' * 4, init_scale=128.0, growth_interval=2),
                       loss_scale('every-step', '..i..', growth_interval=1, growth_factor=4.0, backoff_factor=0.25),
                       loss_scale('only-overflows', 'iiii', init_scale=4.0),
                       loss_scale('largest', '....', init_scale=2.0**126, growth_interval=1)],
    })
    save_json(HERE / 'augment.json', {**provenance(), 'cases': crop_boxes(256, 224) + crop_boxes(96, 64) + crop_boxes(161, 128)})
