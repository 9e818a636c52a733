// The rules of the house: strict typed lint, import directions without cycles, koffi and sharp in their places, sizes.
import { createNodeResolver, importX } from 'eslint-plugin-import-x'
import { defineConfig, globalIgnores } from 'eslint/config'
import tseslint from 'typescript-eslint'

/** What each folder of src may import besides itself. src/index.ts, the composition root, may import all of them. */
const layers = {
  tensor: [],
  autograd: ['tensor'],
  compile: ['tensor'],
  cpu: ['tensor', 'compile'],
  cuda: ['tensor', 'compile'],
  nn: ['tensor', 'autograd'],
  train: ['tensor', 'autograd', 'nn'],
}

const directions = Object.entries(layers).map(([layer, below]) => ({
  target: `./src/${layer}`,
  from: './src',
  except: [layer, ...below].map((folder) => `./${folder}`),
  message: `src/${layer} may import ${below.length === 0 ? 'nothing but itself' : `only itself and ${below.join(', ')}`}.`,
}))

const outsideSources = {
  target: './src',
  from: ['./test', './bench', './examples', './scripts'],
  message: 'Sources never import tests, benchmarks or examples.',
}

const devices = {
  from: ['./src/cpu', './src/cuda'],
  message: 'Only src/index.ts imports the devices; ask it for one.',
}

const koffi = {
  name: 'koffi',
  message: 'Only src/**/ffi/ imports koffi; take the library loader as an argument.',
}
const sharp = { name: 'sharp', message: 'Only src/train/ and examples/ use sharp.' }

/** Forbids a package in static imports, `import()` and `require()`, all three. */
function forbid(...packages) {
  return {
    '@typescript-eslint/no-restricted-imports': ['error', { paths: packages }],
    'no-restricted-syntax': [
      'error',
      ...packages.flatMap(({ name, message }) => [
        { selector: `ImportExpression[source.value='${name}']`, message },
        { selector: `CallExpression[callee.name=/^require/][arguments.0.value='${name}']`, message },
      ]),
    ],
  }
}

export default defineConfig(
  globalIgnores(['dist/', 'coverage/', 'docs/api/', 'bench/results/']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { 'import-x': importX },
    settings: {
      'import-x/extensions': ['.ts'],
      'import-x/parsers': { '@typescript-eslint/parser': ['.ts'] },
      'import-x/resolver-next': [
        createNodeResolver({
          extensions: ['.ts', '.js'],
          tsconfig: { configFile: `${import.meta.dirname}/tsconfig.json` },
        }),
      ],
    },
    rules: {
      '@typescript-eslint/array-type': ['error', { default: 'array' }],
      '@typescript-eslint/consistent-type-exports': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'separate-type-imports' }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/no-inferrable-types': 'error',
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: 'only-allowed-literals' },
      ],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/prefer-for-of': 'error',
      '@typescript-eslint/prefer-nullish-coalescing': 'error',
      '@typescript-eslint/prefer-optional-chain': 'error',
      '@typescript-eslint/prefer-readonly': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      eqeqeq: 'error',
      'import-x/no-cycle': ['error', { ignoreExternal: true }],
      'import-x/no-duplicates': 'error',
      'import-x/no-restricted-paths': [
        'error',
        { basePath: import.meta.dirname, zones: [...directions, outsideSources] },
      ],
      'import-x/no-self-import': 'error',
      'max-lines': ['error', { max: 400 }],
      'max-lines-per-function': ['error', { max: 80, skipBlankLines: true, skipComments: true }],
      'no-constant-condition': ['error', { checkLoops: 'allExceptWhileTrue' }],
      'no-debugger': 'error',
      'no-fallthrough': 'error',
      'no-loss-of-precision': 'error',
      'no-self-compare': 'error',
      'no-unreachable-loop': 'error',
      'no-unsafe-finally': 'error',
      'no-useless-escape': 'error',
    },
  },
  // Nothing in the sources is silenced: comments that turn a rule off have no effect there, and are reported.
  {
    files: ['src/**/*.ts'],
    linterOptions: { noInlineConfig: true },
    rules: { 'no-console': 'error', ...forbid(koffi, sharp) },
  },
  { files: ['src/*/ffi/**/*.ts', 'src/*/**/ffi/**/*.ts'], rules: forbid(sharp) },
  { files: ['src/train/**/*.ts', 'examples/**/*.ts'], rules: forbid(koffi) },
  {
    files: ['src/*.ts'],
    ignores: ['src/index.ts'],
    rules: {
      'import-x/no-restricted-paths': [
        'error',
        { basePath: import.meta.dirname, zones: [{ ...devices, target: './src' }, outsideSources] },
      ],
    },
  },
  {
    files: ['examples/**/*.ts'],
    rules: {
      'import-x/no-restricted-paths': [
        'error',
        { basePath: import.meta.dirname, zones: [{ ...devices, target: './examples' }] },
      ],
    },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      '@typescript-eslint/no-empty-function': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/restrict-template-expressions': 'off',
      '@typescript-eslint/unbound-method': 'off',
      'max-lines-per-function': 'off',
    },
  },
  { files: ['**/*.js', '**/*.mjs'], extends: [tseslint.configs.disableTypeChecked] },
)
