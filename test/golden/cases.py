"""The cases of primitives.py: for each a name, the operation (our primitive's or function's name), its parameters,
its inputs by name, and the same computation in PyTorch as a function of those inputs to named outputs."""
import torch
import torch.nn.functional as F

from primitives import Draws


def case(name, op, params, inputs, function, **more):
    """One case; `more` may name the differentiable outputs and the convention for ties."""
    return {'name': name, 'op': op, 'params': params, 'inputs': inputs, 'function': function, **more}


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


# ---- convolutions ----

# name: input [n,h,w,c], out channels, window, stride, padding [[top,bottom],[left,right]], dilation, groups
CONVOLUTIONS = {
    '1x1': ([2, 5, 4, 24], 16, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    '1x1-stride2': ([2, 5, 6, 12], 16, (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 1),
    '3x3': ([2, 5, 4, 6], 10, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    '3x3-groups32x4': ([2, 4, 3, 128], 128, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 32),
    '3x3-groups32x4-stride2': ([1, 6, 5, 128], 128, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 32),
    '3x3-groups32x8': ([1, 3, 4, 256], 256, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 32),
    '3x3-groups32x8-stride2': ([1, 4, 5, 256], 64, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 32),
    '3x3-groups4x16': ([1, 4, 5, 64], 64, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 4),
    '3x3-groups2x32-stride2': ([1, 6, 4, 64], 16, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 2),
    '3x3-groups2-uneven': ([2, 5, 5, 6], 10, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 2),
    '3x3-depthwise': ([2, 5, 5, 7], 7, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 7),
    '7x7-stem': ([2, 17, 16, 3], 16, (7, 7), (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    '3x3-dilation2': ([2, 7, 8, 6], 8, (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), 2),
    'asymmetric': ([2, 9, 6, 4], 6, (3, 5), (2, 1), ((1, 2), (0, 3)), (1, 2), 2),
    'unused-border': ([1, 8, 8, 3], 4, (3, 3), (3, 3), ((0, 0), (0, 0)), (1, 1), 1),
}


def convolve(stride, padding, dilation, groups):
    (top, bottom), (left, right) = padding

    def apply(x, filter):
        padded = F.pad(nchw(x), (left, right, top, bottom))
        return nhwc(F.conv2d(padded, nchw(filter), None, stride, 0, dilation, groups))

    return apply


def convolutions():
    for name, (shape, out, window, stride, padding, dilation, groups) in CONVOLUTIONS.items():
        full = f'conv2d-{name}'
        draws = Draws(full)
        apply = convolve(stride, padding, dilation, groups)
        params = {'stride': stride, 'padding': padding, 'dilation': dilation, 'groups': groups}
        x, filter = draws.normal(*shape), draws.normal(out, *window, shape[3] // groups, scale=0.25)
        yield case(full, 'conv2d', params, {'x': x, 'filter': filter}, lambda x, filter, f=apply: {'y': f(x, filter)})


def convolution_gradients():
    """The two gradient primitives as operations of their own: their gradients are PyTorch's double backward."""
    for name in ['3x3-groups2-uneven', '3x3-dilation2', 'asymmetric']:
        shape, out, window, stride, padding, dilation, groups = CONVOLUTIONS[name]
        apply = convolve(stride, padding, dilation, groups)
        params = {'stride': stride, 'padding': padding, 'dilation': dilation, 'groups': groups}
        filter_shape = [out, *window, shape[3] // groups]

        def input_gradient(cotangent, filter, f=apply, s=shape):
            zero = torch.zeros(s, dtype=filter.dtype, requires_grad=True)
            return {'dx': torch.autograd.grad(f(zero, filter), zero, cotangent, create_graph=True)[0]}

        def filter_gradient(x, cotangent, f=apply, s=filter_shape):
            zero = torch.zeros(s, dtype=x.dtype, requires_grad=True)
            return {'dfilter': torch.autograd.grad(f(x, zero), zero, cotangent, create_graph=True)[0]}

        draws = Draws(f'conv2d-gradients-{name}')
        x, filter = draws.normal(*shape), draws.normal(*filter_shape, scale=0.25)
        cotangent = draws.normal(*apply(x, filter).shape)
        yield graded(f'conv2dInputGrad-{name}', 'conv2dInputGrad', {**params, 'inputShape': shape},
                     {'cotangent': cotangent, 'filter': filter}, input_gradient)
        yield graded(f'conv2dFilterGrad-{name}', 'conv2dFilterGrad', {**params, 'filterShape': filter_shape},
                     {'x': x, 'cotangent': cotangent}, filter_gradient)


def graded(name, op, params, inputs, function):
    """A case whose function differentiates inside, so it must also run where gradients are off."""

    def enabled(**values):
        with torch.enable_grad():
            return function(**values)

    return case(name, op, params, inputs, enabled)


# ---- normalisation and pooling ----

def batch_norms():
    def train(x, gamma, beta, runningMean, runningVariance):
        mean, variance = runningMean.detach().clone(), runningVariance.detach().clone()
        y = F.batch_norm(nchw(x), mean, variance, gamma, beta, True, 0.1, 1e-5)
        batch_variance, batch_mean = torch.var_mean(x, (0, 1, 2), correction=0)
        return {'y': nhwc(y), 'mean': batch_mean, 'variance': batch_variance,
                'newRunningMean': mean, 'newRunningVariance': variance}

    def evaluate(x, gamma, beta, runningMean, runningVariance):
        y = F.batch_norm(nchw(x), runningMean.detach(), runningVariance.detach(), gamma, beta, False, 0.1, 1e-5)
        return {'y': nhwc(y)}

    for name, shape, mean in [('', [4, 5, 3, 16], 0.0), ('-one-pixel', [8, 1, 1, 6], 0.0),
                              ('-large-mean', [4, 6, 6, 8], 30.0)]:
        for training in [True, False]:
            full = f'batchNorm-{"training" if training else "evaluation"}{name}'
            draws, c = Draws(full), shape[3]
            inputs = {'x': draws.normal(*shape, mean=mean), 'gamma': draws.positive(c), 'beta': draws.normal(c),
                      'runningMean': draws.normal(c), 'runningVariance': draws.positive(c)}
            params = {'training': training, 'momentum': 0.1, 'epsilon': 1e-5}
            yield case(full, 'batchNorm', params, inputs, train if training else evaluate, differentiable=['y'])

    draws = Draws('moments')
    for name, shape, axes, mean in [('nhw', [3, 4, 5, 6], (0, 1, 2), 0.0), ('last', [6, 40], (1,), 0.0),
                                    ('large-mean', [4, 6, 6, 8], (0, 1, 2), 30.0)]:
        def moments(x, axes=axes):
            variance, mean = torch.var_mean(x, axes, correction=0)
            return {'mean': mean, 'variance': variance}

        yield case(f'moments-{name}', 'moments', {'axes': axes}, {'x': draws.normal(*shape, mean=mean)}, moments)


def pools():
    draws = Draws('pools')
    three = {'window': (3, 3), 'stride': (2, 2), 'padding': ((1, 1), (1, 1))}
    two = {'window': (2, 2), 'stride': (2, 2), 'padding': ((0, 0), (0, 0))}
    wide = {'window': (3, 2), 'stride': (1, 2), 'padding': ((1, 1), (0, 0))}

    def pooling(function, params):
        padding = [params['padding'][0][0], params['padding'][1][0]]
        return lambda x: {'y': nhwc(function(nchw(x).contiguous(), params['window'], params['stride'], padding))}

    inputs = {'distinct': draws.distinct(1, 8, 9, 3), 'ties': draws.integers(-1, 3, 2, 8, 7, 6).double(),
              'after-relu': draws.normal(2, 8, 8, 5).relu(), 'negative': -draws.positive(1, 7, 8, 4)}
    for name, x in inputs.items():
        yield case(f'maxPool2d-{name}', 'maxPool2d', three, {'x': x}, pooling(F.max_pool2d, three), ties='first')
    yield case('maxPool2d-2x2', 'maxPool2d', two, {'x': draws.normal(2, 7, 6, 5)}, pooling(F.max_pool2d, two),
               ties='first')
    yield case('maxPool2d-asymmetric', 'maxPool2d', wide, {'x': draws.normal(2, 5, 6, 3)}, pooling(F.max_pool2d, wide),
               ties='first')
    for name, params in [('3x3', three), ('2x2', two), ('asymmetric', wide)]:
        yield case(f'avgPool2d-{name}', 'avgPool2d', params, {'x': draws.normal(2, 7, 8, 5)}, pooling(F.avg_pool2d, params))
    yield case('globalAveragePool', 'globalAveragePool', {}, {'x': draws.normal(3, 5, 7, 9)}, lambda x: {'y': x.mean((1, 2))})


# ---- products, layers and losses ----

def products():
    def dot(name, left, right, batch, contract, function):
        draws = Draws(f'dot-{name}')
        params = {'batch': batch, 'contract': contract}
        return case(f'dot-{name}', 'dot', params, {'a': draws.normal(*left), 'b': draws.normal(*right)},
                    lambda a, b: {'y': function(a, b)})

    yield dot('matmul', [7, 33], [33, 10], ([], []), ([1], [0]), torch.matmul)
    yield dot('matmul-transposed', [33, 7], [10, 33], ([], []), ([0], [1]), lambda a, b: a.T @ b.T)
    yield dot('batched', [3, 5, 8], [3, 8, 6], ([0], [0]), ([2], [1]), torch.bmm)
    yield dot('two-batch-axes', [2, 3, 5, 8], [3, 2, 6, 8], ([0, 1], [1, 0]), ([3], [3]),
              lambda a, b: torch.einsum('ijmk,jink->ijmn', a, b))
    yield dot('outer', [5], [7], ([], []), ([], []), torch.outer)
    yield dot('vector', [19], [19], ([], []), ([0], [0]), torch.dot)
    draws = Draws('linear')
    yield case('linear', 'linear', {'weightLayout': '[out, in]'},
               {'x': draws.normal(4, 24), 'weight': draws.normal(10, 24, scale=0.25), 'bias': draws.normal(10)},
               lambda x, weight, bias: {'y': F.linear(x, weight, bias)})


def squeeze_excites():
    def module(x, squeezeWeight, squeezeBias, expandWeight, expandBias):
        hidden = F.linear(x.mean((1, 2)), squeezeWeight, squeezeBias).relu()
        gate = F.linear(hidden, expandWeight, expandBias).sigmoid()
        return {'y': x * gate[:, None, None, :], 'gate': gate}

    for channels, width in [(64, 4), (32, 16)]:
        draws = Draws(f'squeezeExcite-{channels}-{width}')
        inputs = {'x': draws.normal(3, 4, 3, channels), 'squeezeWeight': draws.normal(width, channels),
                  'squeezeBias': draws.normal(width, scale=0.5), 'expandWeight': draws.normal(channels, width, scale=0.5),
                  'expandBias': draws.normal(channels)}
        yield case(f'squeezeExcite-{channels}-{width}', 'squeezeExcite', {'weightLayout': '[out, in]'}, inputs, module,
                   differentiable=['y'])


def losses():
    draws = Draws('softmaxCrossEntropy')
    for smoothing in [0.0, 0.1]:
        params = {'labelSmoothing': smoothing, 'reduction': 'mean'}
        logits = draws.normal(6, 10)
        soft = F.softmax(draws.normal(6, 10), 1).float().double()
        mixed = 0.75 * F.one_hot(torch.arange(6), 10).double() + 0.25 * F.one_hot(torch.arange(6).flip(0) + 3, 10).double()

        def index_loss(logits, targets, s=smoothing):
            return {'loss': F.cross_entropy(logits, targets.long(), label_smoothing=s)}

        def soft_loss(logits, targets, s=smoothing):
            return {'loss': F.cross_entropy(logits, targets, label_smoothing=s)}

        yield case(f'softmaxCrossEntropy-index-{smoothing}', 'softmaxCrossEntropy', params,
                   {'logits': logits, 'targets': draws.integers(0, 10, 6)}, index_loss)
        yield case(f'softmaxCrossEntropy-soft-{smoothing}', 'softmaxCrossEntropy', params,
                   {'logits': logits, 'targets': soft}, soft_loss)
        yield case(f'softmaxCrossEntropy-mixup-{smoothing}', 'softmaxCrossEntropy', params,
                   {'logits': logits * 8, 'targets': mixed}, soft_loss)


# ---- pointwise, reductions, indices ----

def pointwise():
    any_sign = {'neg': torch.neg, 'exp': torch.exp, 'sin': torch.sin, 'cos': torch.cos, 'tanh': torch.tanh,
                'sigmoid': torch.sigmoid, 'erf': torch.erf, 'abs': torch.abs, 'relu': torch.relu, 'silu': F.silu}
    positive = {'log': torch.log, 'sqrt': torch.sqrt, 'rsqrt': torch.rsqrt}
    for names, draw in [(any_sign, Draws('pointwise').distinct), (positive, Draws('positive').positive)]:
        for op, function in names.items():
            yield case(op, op, {}, {'x': draw(4, 30)}, lambda x, f=function: {'y': f(x)})
    for approximate in ['none', 'tanh']:
        yield case(f'gelu-{approximate}', 'gelu', {'approximate': approximate}, {'x': Draws('gelu').distinct(4, 30)},
                   lambda x, a=approximate: {'y': F.gelu(x, approximate=a)})
    draws = Draws('binary')
    a, b, base = draws.distinct(4, 30), draws.distinct(4, 30), draws.positive(4, 30)
    for op, function in {'add': torch.add, 'sub': torch.sub, 'mul': torch.mul, 'div': torch.div}.items():
        yield case(op, op, {}, {'a': a, 'b': b}, lambda a, b, f=function: {'y': f(a, b)})
    yield case('pow', 'pow', {}, {'a': base, 'b': b}, lambda a, b: {'y': torch.pow(a, b)})
    low, high = draws.integers(0, 3, 4, 30).double(), draws.integers(0, 3, 4, 30).double()
    for op, function in {'max': torch.maximum, 'min': torch.minimum}.items():
        yield case(op, op, {}, {'a': a, 'b': b.flip(0)}, lambda a, b, f=function: {'y': f(a, b)})
        yield case(f'{op}-ties', op, {}, {'a': low, 'b': high}, lambda a, b, f=function: {'y': f(a, b)}, ties='even')


def reductions():
    draws = Draws('reductions')
    x, tied = draws.distinct(3, 4, 20), draws.integers(0, 4, 3, 8, 5).double()
    for op, function in {'reduceSum': torch.sum, 'reduceMax': torch.amax, 'reduceMin': torch.amin, 'mean': torch.mean,
                         'logSumExp': torch.logsumexp}.items():
        for axes in [(0,), (2,), (0, 2), (0, 1, 2)]:
            yield case(f'{op}-{"".join(map(str, axes))}', op, {'axes': axes}, {'x': x},
                       lambda x, f=function, a=axes: {'y': f(x, a)})
    first = {'reduceMax': torch.max, 'reduceMin': torch.min}
    for op, function in {'reduceMax': torch.amax, 'reduceMin': torch.amin}.items():
        yield case(f'{op}-ties-even', op, {'axes': (1,)}, {'x': tied},
                   lambda x, f=function: {'y': f(x, 1)}, ties='even')
        yield case(f'{op}-ties-first', op, {'axes': (1,)}, {'x': tied},
                   lambda x, f=first[op]: {'y': f(x, 1).values}, ties='first')
    yield case('logSumExp-large', 'logSumExp', {'axes': (1,)}, {'x': draws.normal(4, 12) * 256},
               lambda x: {'y': torch.logsumexp(x, 1)})
    for op, function in {'softmax': F.softmax, 'logSoftmax': F.log_softmax}.items():
        for axis in [1, 2]:
            yield case(f'{op}-{axis}', op, {'axis': axis}, {'x': x}, lambda x, f=function, a=axis: {'y': f(x, a)})


def indices():
    draws = Draws('indices')
    for name, shape, axis, index in [('rows', [9, 4], 0, draws.integers(0, 9, 14)),
                                     ('columns', [3, 8, 5], 1, draws.integers(0, 8, 6)),
                                     ('table', [7, 5], 0, draws.integers(0, 7, 2, 3)),
                                     ('permutation', [3, 12], 1, draws.permutation(12))]:
        flat = index.reshape(-1).long()
        taken = [*shape[:axis], *index.shape, *shape[axis + 1:]]
        flat_taken = [*shape[:axis], flat.numel(), *shape[axis + 1:]]

        def gather(x, indices, a=axis, i=flat, s=taken):
            return {'y': x.index_select(a, i).reshape(s)}

        def scatter(updates, indices, a=axis, i=flat, s=shape, u=flat_taken):
            return {'y': torch.zeros(s, dtype=updates.dtype).index_add(a, i, updates.reshape(u))}

        yield case(f'gather-{name}', 'gather', {'axis': axis}, {'x': draws.normal(*shape), 'indices': index}, gather)
        yield case(f'scatterAdd-{name}', 'scatterAdd', {'axis': axis, 'shape': shape},
                   {'updates': draws.normal(*taken), 'indices': index}, scatter)


def cases():
    """Every case, in a stable order."""
    for group in [convolutions, convolution_gradients, batch_norms, pools, products, squeeze_excites, losses, pointwise,
                  reductions, indices]:
        yield from group()
