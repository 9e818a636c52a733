// Transformations of functions: what src/index.ts shows to users and src/nn builds on.
export { type AutocastPolicy, type Treatment, autocast, treatments } from './autocast.ts'
export { type CheckGradsOptions, checkGrads } from './check-grads.ts'
export { checkpoint } from './checkpoint.ts'
export { type ArgumentCotangents, customVjp } from './custom-vjp.ts'
export { type ArgNums, type GradAuxOptions, type GradOptions, type Gradients, grad, valueAndGrad } from './grad.ts'
export { type JitOptions, type Jitted, jit } from './jit.ts'
export { verifyPrograms } from './trace.ts'
export { jvp, vjp } from './vjp.ts'
