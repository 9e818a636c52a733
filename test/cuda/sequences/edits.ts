// Edits that turn a sequence in order into one that is not. Each throws where there is nothing to edit, so that no malformed
// sequence is in order by a slip of the pen.
import type { AttributeName, AttributeType } from '../../../src/cuda/ffi/cudnn.ts'
import type { Step, Values } from './sequence.ts'

type Steps = readonly Step[]

const isSet = (name: string, attribute: AttributeName) => (step: Step) =>
  step[0] === 'set' && step[1] === name && step[2] === attribute

const isFinalize = (name: string) => (step: Step) => step[0] === 'finalize' && step[1] === name

function edited(steps: Steps, wanted: (step: Step) => boolean, edit: (step: Step) => Steps): Steps {
  if (!steps.some(wanted)) throw new Error('a malformed sequence has nothing to malform')
  return steps.flatMap((step) => (wanted(step) ? edit(step) : [step]))
}

/** Leaves out the setting of an attribute. */
export function without(steps: Steps, name: string, attribute: AttributeName): Steps {
  return edited(steps, isSet(name, attribute), () => [])
}

/** Sets an attribute to other values. */
export function changed(steps: Steps, name: string, attribute: AttributeName, values: Values): Steps {
  return edited(steps, isSet(name, attribute), (step) =>
    step[0] === 'set' ? [['set', name, attribute, step[3], values]] : [],
  )
}

/** Sets an attribute under another type, to other values where that needs them. */
export function retyped(
  steps: Steps,
  name: string,
  attribute: AttributeName,
  type: AttributeType,
  values?: Values,
): Steps {
  return edited(steps, isSet(name, attribute), (step) =>
    step[0] === 'set' ? [['set', name, attribute, type, values ?? step[4]]] : [],
  )
}

/** Never finalizes a descriptor. */
export function unfinalized(steps: Steps, name: string): Steps {
  return edited(steps, isFinalize(name), () => [])
}

/** Takes steps just before a descriptor is finalized. */
export function beforeFinalize(steps: Steps, name: string, ...more: Steps): Steps {
  return edited(steps, isFinalize(name), (step) => [...more, step])
}

/** Finalizes a descriptor only where another one is finalized. */
export function finalizedLate(steps: Steps, name: string, at: string): Steps {
  return beforeFinalize(unfinalized(steps, name), at, ['finalize', name])
}
