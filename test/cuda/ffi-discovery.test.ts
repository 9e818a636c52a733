// Which libraries are taken, and the sentence for each way in which they can be missing, old or mixed.
import { describe, expect, test } from 'vitest'
import { discover } from '../../src/cuda/discovery.ts'
import { cachedFolders } from '../../src/cuda/discovery-machine.ts'
import { cudnnFiles, probe } from '../../src/cuda/discovery-probe.ts'
import type { Versions } from '../../src/cuda/discovery-versions.ts'
import { checkVersions, targetArchitecture } from '../../src/cuda/discovery-versions.ts'
import { doctorLines } from '../../src/cuda/doctor.ts'
import { type FakeFunction, fakeMachine, fakeNative, wholeCudnn, write, writeInt } from './fakes.ts'

const cu13 = ['libnvrtc.so.13', 'libnvrtc-builtins.so.13.0', 'libnvrtc.alt.so.13', 'libcublasLt.so.13']
const cu12 = ['libnvrtc.so.12', 'libnvrtc-builtins.so.12.4', 'libcublasLt.so.12']
const driver = { '/drv': ['libcuda.so.1'] }
const complete = {
  folders: { ...driver, '/py/nvidia/cudnn/lib': wholeCudnn, '/py/nvidia/cu13/lib': cu13 },
  loader: ['/drv'],
  site: ['/py'],
}

const codes = (problems: readonly { code: string }[]) => problems.map(({ code }) => code)
const sentence = (problems: readonly { sentence: string }[]) => {
  expect(problems).toHaveLength(1)
  return problems[0]?.sentence ?? ''
}

describe('folders', () => {
  test('the wheels of python3 are found, builtins before NVRTC and the parts of cuDNN before itself', () => {
    const found = discover(fakeMachine(complete))
    expect(found.problems).toEqual([])
    expect(found.nvrtc?.files).toEqual([
      '/py/nvidia/cu13/lib/libnvrtc-builtins.so.13.0',
      '/py/nvidia/cu13/lib/libnvrtc.so.13',
    ])
    expect(found.cudnn?.files[0]).toBe('/py/nvidia/cudnn/lib/libcudnn_graph.so.9')
    expect(found.cudnn?.files.at(-1)).toBe('/py/nvidia/cudnn/lib/libcudnn.so.9')
    expect(found.cudnn?.origin).toBe('python3')
  })

  test('the order is PULLBACK_CUDA_PATH, CUDA_HOME, CUDA_PATH, the loader, /usr/local/cuda, python3', () => {
    const all = [...cu13, ...wholeCudnn, 'libcuda.so.1']
    const places: Record<string, readonly string[]> = {
      '/own/lib': all,
      '/home/lib64': all,
      '/path/lib': all,
      '/ld': all,
      '/usr/local/cuda/lib64': all,
    }
    const machine = {
      environment: { PULLBACK_CUDA_PATH: '/own/', CUDA_HOME: '/home', CUDA_PATH: '/path' },
      loader: ['/ld'],
    }
    for (const [folder, origin] of [
      ['/own/lib', 'PULLBACK_CUDA_PATH'],
      ['/home/lib64', 'CUDA_HOME'],
      ['/path/lib', 'CUDA_PATH'],
      ['/ld', 'the loader'],
      ['/usr/local/cuda/lib64', '/usr/local/cuda'],
    ] as const) {
      const found = discover(fakeMachine({ ...machine, folders: places }))
      for (const library of [found.nvrtc, found.cublasLt, found.cudnn])
        expect(library).toMatchObject({ folder, origin })
      Reflect.deleteProperty(places, folder)
    }
  })

  test('the wheels of CUDA 12 have a folder each', () => {
    const folders = {
      ...driver,
      '/py/nvidia/cudnn/lib': wholeCudnn,
      '/py/nvidia/cublas/lib': ['libcublasLt.so.12'],
      '/py/nvidia/cuda_nvrtc/lib': ['libnvrtc.so.12', 'libnvrtc-builtins.so.12.8'],
    }
    const found = discover(fakeMachine({ ...complete, folders }))
    expect(found.problems).toEqual([])
    expect(found.cublasLt?.folder).toBe('/py/nvidia/cublas/lib')
  })

  test('NVRTC and cuBLASLt are of one CUDA major, the newest that is whole and that the driver runs', () => {
    const both = { ...complete.folders, '/ld': cu12 }
    const machine = fakeMachine({ ...complete, folders: both, loader: ['/drv', '/ld'] })
    expect(discover(machine).nvrtc?.files.at(-1)).toContain('.so.13')
    expect(discover(machine, 12).nvrtc?.files.at(-1)).toBe('/ld/libnvrtc.so.12')
    expect(discover(machine, 12).cublasLt?.files).toEqual(['/ld/libcublasLt.so.12'])
    const partial = { ...both, '/py/nvidia/cu13/lib': ['libcublasLt.so.13'] }
    const found = discover(fakeMachine({ ...complete, folders: partial, loader: ['/drv', '/ld'] }))
    expect(found.cublasLt?.files).toEqual(['/ld/libcublasLt.so.12'])
  })

  test("the loader's cache gives the folders of our libraries only", () => {
    const printed = `2 libs found in cache
	libcudnn.so.9 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcudnn.so.9
	libcupti.so.13 (libc6,x86-64) => /usr/local/cuda-13.0/extras/libcupti.so.13
	libcuda.so.1 (libc6,x86-64) => /usr/lib/nvidia/libcuda.so.1`
    expect(cachedFolders(printed)).toEqual(['/usr/lib/x86_64-linux-gnu', '/usr/lib/nvidia'])
  })
})

describe('what is missing', () => {
  test('nothing at all: one sentence for each library', () => {
    const { problems } = discover(fakeMachine({ folders: {} }))
    expect(codes(problems)).toEqual(['driver-missing', 'nvrtc-missing', 'cublaslt-missing', 'cudnn-missing'])
    for (const problem of problems) expect(problem.sentence).toMatch(/Install .*\.$/)
  })

  test('an explicit path that is no folder', () => {
    const machine = { ...complete, environment: { PULLBACK_CUDA_PATH: '/nowhere' } }
    const said = sentence(discover(fakeMachine(machine)).problems)
    expect(said).toContain('PULLBACK_CUDA_PATH names /nowhere')
  })

  test('NVRTC without its builtins, unless another folder has both', () => {
    const bare = { '/bare': ['libnvrtc.so.13'] }
    const without = { ...complete.folders, ...bare, '/py/nvidia/cu13/lib': ['libcublasLt.so.13'] }
    const machine = { ...complete, loader: ['/drv', '/bare'] }
    const { problems } = discover(fakeMachine({ ...machine, folders: without }))
    expect(codes(problems)).toEqual(['nvrtc-builtins'])
    expect(sentence(problems)).toContain('/bare has libnvrtc.so.13 and no libnvrtc-builtins.so.13.*')
    expect(discover(fakeMachine({ ...machine, folders: { ...complete.folders, ...bare } })).problems).toEqual([])
  })

  test('cuDNN 8 is not cuDNN 9', () => {
    const folders = { ...complete.folders, '/py/nvidia/cudnn/lib': ['libcudnn.so.8'] }
    const said = sentence(discover(fakeMachine({ ...complete, folders })).problems)
    expect(said).toContain('/py/nvidia/cudnn/lib has cuDNN 8')
  })

  test('a cuDNN whose parts lie in two folders', () => {
    const folders = {
      ...complete.folders,
      '/py/nvidia/cudnn/lib': wholeCudnn.filter((name) => name !== 'libcudnn_ops.so.9'),
      '/ld': ['libcudnn_ops.so.9'],
    }
    const { problems } = discover(fakeMachine({ ...complete, folders, loader: ['/drv', '/ld'] }))
    expect(codes(problems)).toEqual(['cudnn-incomplete'])
    expect(sentence(problems)).toMatch(/lacks libcudnn_ops\.so\.9; \/ld has one, but parts of two folders do not mix/)
  })

  test('an incomplete cuDNN is passed over for a whole one further on', () => {
    const folders = { ...complete.folders, '/ld': ['libcudnn.so.9'] }
    const found = discover(fakeMachine({ ...complete, folders, loader: ['/drv', '/ld'] }))
    expect(found.problems).toEqual([])
    expect(found.cudnn?.folder).toBe('/py/nvidia/cudnn/lib')
  })

  test('two versions of cuDNN in one folder', () => {
    const at = (name: string, version: string) =>
      [`/py/nvidia/cudnn/lib/${name}`, `/x/${name.replace(/9$/, version)}`] as const
    const links = Object.fromEntries(
      wholeCudnn.map((name) => at(name, name === 'libcudnn_cnn.so.9' ? '9.8.0' : '9.10.2')),
    )
    const { problems } = discover(fakeMachine({ ...complete, links }))
    expect(codes(problems)).toEqual(['cudnn-mixed'])
    expect(sentence(problems)).toContain('libcudnn_cnn.so.9 is 9.8.0')
  })
})

const good: Versions = {
  driver: { version: 13000, path: '/drv' },
  nvrtc: { version: 13000, architectures: [75, 80, 86, 90, 100], path: '/n' },
  cublasLt: { version: 130101, cuda: 13000, path: '/b' },
  cudnn: { version: 92400, cuda: 13030, path: '/c' },
  gpus: [{ name: 'H200', capability: 90 }],
  cudnnLoaded: ['/c/libcudnn.so.9', '/c/libcudnn_ops.so.9'],
}

describe('versions', () => {
  test('all well', () => expect(checkVersions(good)).toEqual([]))

  test.each([
    ['driver-old', { driver: { version: 12010, path: '/drv' } }, /\(\/drv\) supports CUDA up to 12\.1.*driver 535/],
    ['nvrtc-old', { nvrtc: { version: 12010, architectures: [90], path: '/n' } }, /NVRTC in \/n is 12\.1/],
    ['cublaslt-old', { cublasLt: { version: 120103, cuda: 12010, path: '/b' } }, /cuBLASLt in \/b is 12\.1\.3/],
    ['cudnn-old', { cudnn: { version: 90701, cuda: 12000, path: '/c' } }, /cuDNN in \/c is 9\.7\.1.*needs 9\.8\.0/],
    ['gpu-missing', { gpus: [] }, /sees no GPU/],
    ['gpu-unsupported', { gpus: [{ name: 'V100', capability: 70 }] }, /V100 has compute capability 7\.0.*needs 8\.0/],
    ['gpu-unsupported', { gpus: [{ name: 'R100', capability: 130 }] }, /NVRTC 13\.0 in \/n compiles up to 10\.0/],
    ['cudnn-mixed', { cudnnLoaded: ['/c/libcudnn.so.9', '/e/libcudnn_ops.so.9'] }, /from \/c and from \/e/],
  ] satisfies [string, Versions, RegExp][])('%s', (code, change, said) => {
    const withDriver =
      code === 'driver-old' ? { driver: undefined, nvrtc: undefined, cublasLt: undefined, cudnn: undefined } : {}
    const kept = Object.fromEntries(
      Object.entries({ ...good, ...withDriver, ...change }).filter(([, v]) => v !== undefined),
    )
    const problems = checkVersions(kept)
    expect(codes(problems)).toEqual([code])
    expect(sentence(problems)).toMatch(said)
  })

  test('libraries of a newer CUDA major than the driver', () => {
    const problems = checkVersions({ ...good, driver: { version: 12080, path: '/drv' } })
    expect(codes(problems)).toEqual(['cuda-major', 'cuda-major', 'cuda-major'])
    expect(problems[2]?.sentence).toMatch(/cuDNN in \/c is for CUDA 13\.3, and the driver supports CUDA up to 12\.8/)
  })

  test('an old GPU beside a new one is no problem', () => {
    const gpus = [
      { name: 'V100', capability: 70 },
      { name: 'H200', capability: 90 },
    ]
    expect(checkVersions({ ...good, gpus })).toEqual([])
  })

  test('code for an older GPU of the same major runs, of another does not', () => {
    expect(targetArchitecture(90, [80, 90, 100])).toBe(90)
    expect(targetArchitecture(89, [80, 86, 90])).toBe(86)
    expect(targetArchitecture(90, [80, 100])).toBeUndefined()
    expect(targetArchitecture(100, [103])).toBeUndefined()
  })
})

describe('probe and doctor', () => {
  const answers: Record<string, FakeFunction> = {
    cuDriverGetVersion: (out) => writeInt(out, 13000),
    cuDeviceGetCount: (out) => writeInt(out, 1),
    cuDeviceGet: (out) => writeInt(out, 0),
    cuDeviceGetAttribute: (out, attribute) => writeInt(out, attribute === 75 ? 9 : 0),
    cuDeviceGetName: (out) => {
      new TextEncoder().encodeInto('NVIDIA H200', out as Uint8Array)
      return 0
    },
    nvrtcVersion: (major, minor) => writeInt(major, 13) + writeInt(minor, 0),
    nvrtcGetNumSupportedArchs: (out) => writeInt(out, 2),
    nvrtcGetSupportedArchs: (out) => {
      ;(out as Int32Array).set([90, 80])
      return 0
    },
    cublasLtGetVersion: () => 130101,
    cublasLtGetCudartVersion: () => 13000,
    cudnnGetVersion: () => 92400,
    cudnnGetCudartVersion: () => 13030,
    cuGetErrorName: (_, out) => write(out, 5n),
    cuGetErrorString: (_, out) => write(out, 6n),
  }
  const run = (functions: Record<string, FakeFunction>, maps = '') => {
    const fake = fakeNative({ ...answers, ...functions })
    return { ...probe(fakeMachine(complete), fake.native, () => maps), fake }
  }

  test('a machine where all is well', () => {
    const findings = run(
      {},
      '7f00 r-xp /py/nvidia/cudnn/lib/libcudnn.so.9\n7f01 r-xp /py/nvidia/cudnn/lib/libcudnn_ops.so.9',
    )
    expect(doctorLines(findings)).toMatchInlineSnapshot(`
      [
        "driver:   CUDA 13.0, in /drv (from the loader)",
        "NVRTC:    13.0, sm_80 to sm_90, in /py/nvidia/cu13/lib (from python3)",
        "cuBLASLt: 13.1.1, in /py/nvidia/cu13/lib (from python3)",
        "cuDNN:    9.24.0 for CUDA 13.3, in /py/nvidia/cudnn/lib (from python3)",
        "GPU 0:    NVIDIA H200, compute capability 9.0",
        "CUDA can be used.",
      ]
    `)
    expect(findings.fake.loaded.indexOf('/py/nvidia/cu13/lib/libnvrtc-builtins.so.13.0')).toBeLessThan(
      findings.fake.loaded.indexOf('/py/nvidia/cu13/lib/libnvrtc.so.13'),
    )
  })

  test('cuInit without a GPU is a sentence, not a stack', () => {
    expect(codes(run({ cuInit: () => 100 }).problems)).toEqual(['gpu-missing'])
  })

  test('a driver that does not match its kernel module says so', () => {
    const { problems } = run({ cuInit: () => 803 })
    expect(codes(problems)).toEqual(['call'])
    expect(sentence(problems)).toMatch(/^cuInit \(driver\) failed with status 803, text at 5: text at 6.*restart/)
  })

  test('parts of another cuDNN', () => {
    expect(codes(run({ cudnnOpsVersionCheck: () => 1002 }).problems)).toEqual(['cudnn-mixed'])
    const maps = '7f /a/libcudnn.so.9\n7f /b/libcudnn_ops.so.9.1'
    expect(cudnnFiles(maps)).toEqual(['/a/libcudnn.so.9', '/b/libcudnn_ops.so.9.1'])
    expect(codes(run({}, maps).problems)).toEqual(['cudnn-mixed'])
  })

  test('doctor lists every problem', () => {
    const fake = fakeNative()
    const lines = doctorLines(probe(fakeMachine({ folders: {} }), fake.native, () => ''))
    expect(lines.filter((line) => line.endsWith('not found'))).toHaveLength(4)
    expect(lines.filter((line) => line.startsWith('- '))).toHaveLength(4)
    expect(fake.loaded).toEqual([])
  })
})
