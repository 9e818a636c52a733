"""A CBLAS beside our micro-kernel: the products of cases.mjs (a 1x1 convolution is one) by the OpenBLAS that numpy brings.

Prints one JSON object a line, as the other rows do. The shapes come as an argument, a JSON list of {name, m, k, n}.
"""
import json
import sys
import time

import numpy

REPEATS = 10
ROUNDS = 7


def seconds(product):
    product()
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(REPEATS):
            product()
        rounds.append((time.perf_counter() - start) / REPEATS)
    return sorted(rounds)[ROUNDS // 2]


def main():
    draw = numpy.random.default_rng(0)
    for case in json.loads(sys.argv[1]):
        m, k, n = case["m"], case["k"], case["n"]
        x, y, g = (draw.random(shape, dtype=numpy.float32) for shape in ((m, k), (k, n), (m, n)))
        directions = {
            "forward": lambda: numpy.matmul(x, y),
            "inputGrad": lambda: numpy.matmul(g, y.T),
            "filterGrad": lambda: numpy.matmul(x.T, g),
        }
        for direction, product in directions.items():
            ms = seconds(product) * 1000
            row = {"library": "OpenBLAS (numpy)", "op": f"{case['name']}/{direction}", "ms": ms}
            print(json.dumps({**row, "gflops": 2 * m * k * n / ms / 1e6}))


main()
