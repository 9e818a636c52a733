// Every public operation in one place.
export * from './contract.ts'
export {
  arange,
  fromBits,
  full,
  iota,
  ones,
  onesLike,
  tensor,
  transfer,
  zeros,
  zerosLike,
  type NestedNumbers,
  type TensorOptions,
} from './create.ts'
export * from './indexing.ts'
export * from './movement.ts'
export * from './pointwise.ts'
export * from './reduce.ts'
