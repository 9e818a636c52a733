// Lowers convolutions of any groups, stride, dilation and padding to gathered products: rows.ts forward and for the input
// gradient, outer.ts for the filter gradient. What grouped.ts does faster is left to conv.ts to send there.
import type { GatherArguments } from './gather.ts'
import { type ConvExtents, type Tap, forwardTaps, inputPhases } from './geometry.ts'
import { type Launch, type Lowered, Scratch, listArguments, operand } from './launch.ts'
import { numericOf } from './numeric.ts'
import { maxOuterColumns, outerArguments, outerRows, printOuter } from './outer.ts'
import { type PackLayout, lowerPack, lowerSum, packedElements } from './pack.ts'
import { partitionOuter, partitionRows } from './partition.ts'
import { maxColumns, printRows, rowBlock, rowsArguments } from './rows.ts'

interface Window {
  readonly segment: number
  readonly span: number
  readonly table: readonly number[]
}

function tableOf(taps: readonly Pick<Tap, 'y' | 'x'>[]): number[] {
  return taps.flatMap(({ y, x }) => [y, x])
}

/** The forward pass's window: whole rows of taps where they lie side by side in memory, single taps elsewhere. */
function forwardWindow(conv: ConvExtents): Window {
  const { kernelWidth, channels, groups, dilation } = conv
  const taps = forwardTaps(conv)
  if (groups > 1 || dilation[1] > 1) return { segment: channels / groups, span: 1, table: tableOf(taps) }
  const firsts = taps.filter(({ index }) => index % kernelWidth === 0)
  return { segment: kernelWidth * channels, span: kernelWidth, table: tableOf(firsts) }
}

function forwardGather(conv: ConvExtents, window: Window): GatherArguments {
  return {
    gridHeight: conv.outHeight,
    gridWidth: conv.outWidth,
    strideY: conv.stride[0],
    strideX: conv.stride[1],
    height: conv.height,
    width: conv.width,
    pixel: conv.channels,
    segment: window.segment,
    span: window.span,
  }
}

/** y = conv(x, w); operands x, w, y. */
export function lowerDenseForward(conv: ConvExtents): Lowered {
  const { dtype, batch, channels, outChannels, outHeight, outWidth, groups } = conv
  const numeric = numericOf(dtype)
  const scratch = new Scratch()
  const depth = conv.kernelHeight * conv.kernelWidth * (channels / groups)
  const columns = outChannels / groups
  const layout: PackLayout = {
    outer: groups,
    columns,
    group: columns,
    taps: [0],
    depth,
    outerPitch: columns * depth,
    groupPitch: 0,
    columnPitch: depth,
    tapPitch: 0,
    depthPitch: 1,
    panel: numeric.panel,
  }
  const packed = scratch.take(packedElements(layout) * numeric.computeBytes)
  const window = forwardWindow(conv)
  const rows = batch * outHeight * outWidth
  const parts = partitionRows({
    outer: groups,
    rows,
    columns,
    rowBlock,
    maxColumns: maxColumns(numeric),
    panel: numeric.panel,
  })
  const numbers = listArguments(rowsArguments, {
    ...forwardGather(conv, window),
    ...parts,
    rows,
    columns,
    depth,
    sourceOuter: channels / groups,
    weightOuter: packedElements(layout) / groups,
    weightPanel: depth * numeric.panel,
    weightOrigin: 0,
    outputOuter: columns,
    outputOrigin: 0,
    imagePitch: outHeight * outWidth * outChannels,
    rowPitch: outWidth * outChannels,
    pixelPitch: outChannels,
  })
  const product: Launch = {
    source: printRows(dtype),
    parts: groups * parts.rowParts * parts.columnParts,
    pointers: [operand(0), packed, operand(2)],
    numbers: [...numbers, ...window.table],
  }
  return { launches: [lowerPack(dtype, layout, operand(1), packed), product], scratchBytes: scratch.bytes }
}

/** The cotangent of the input, phase by phase; operands dy, w, dx. */
export function lowerDenseInputGrad(conv: ConvExtents): Lowered {
  const { dtype, batch, height, width, channels, outHeight, outWidth, outChannels, stride, groups } = conv
  const numeric = numericOf(dtype)
  const scratch = new Scratch()
  const columns = channels / groups
  const segment = outChannels / groups
  const kernel = conv.kernelHeight * conv.kernelWidth
  const phases = inputPhases(conv)
  const layout: PackLayout = {
    outer: groups,
    columns,
    group: columns,
    taps: phases.flatMap(({ taps }) => taps.map(({ index }) => index)),
    depth: segment,
    outerPitch: segment * kernel * columns,
    groupPitch: 0,
    columnPitch: 1,
    tapPitch: columns,
    depthPitch: kernel * columns,
    panel: numeric.panel,
  }
  const packed = scratch.take(packedElements(layout) * numeric.computeBytes)
  const launches = [lowerPack(dtype, layout, operand(1), packed)]
  let weightOrigin = 0
  for (const phase of phases) {
    const { gridHeight, gridWidth, taps } = phase
    const rows = batch * gridHeight * gridWidth
    const parts = partitionRows({
      outer: groups,
      rows,
      columns,
      rowBlock,
      maxColumns: maxColumns(numeric),
      panel: numeric.panel,
    })
    const numbers = listArguments(rowsArguments, {
      ...{ gridHeight, gridWidth, strideY: 1, strideX: 1, height: outHeight, width: outWidth },
      ...{ pixel: outChannels, segment, span: 1 },
      ...parts,
      rows,
      columns,
      depth: taps.length * segment,
      sourceOuter: segment,
      weightOuter: packedElements(layout) / groups,
      weightPanel: layout.taps.length * segment * numeric.panel,
      weightOrigin,
      outputOuter: columns,
      outputOrigin: (phase.originY * width + phase.originX) * channels,
      imagePitch: height * width * channels,
      rowPitch: stride[0] * width * channels,
      pixelPitch: stride[1] * channels,
    })
    launches.push({
      source: printRows(dtype),
      parts: groups * parts.rowParts * parts.columnParts,
      pointers: [operand(0), packed, operand(2)],
      numbers: [...numbers, ...tableOf(taps)],
    })
    weightOrigin += taps.length * segment * numeric.panel
  }
  return { launches, scratchBytes: scratch.bytes }
}

/** The cotangent of the filter; operands x, dy, dw. */
export function lowerDenseFilterGrad(conv: ConvExtents): Lowered {
  const { dtype, batch, channels, outChannels, groups } = conv
  const numeric = numericOf(dtype)
  const scratch = new Scratch()
  const rows = outChannels / groups
  const columns = conv.kernelHeight * conv.kernelWidth * (channels / groups)
  const depth = batch * conv.outHeight * conv.outWidth
  const window = forwardWindow(conv)
  const parts = partitionOuter({
    ...{ outer: groups, rows, columns, depth },
    ...{ maxRows: outerRows, maxColumns: maxOuterColumns(numeric), panel: numeric.panel },
  })
  const total = outChannels * columns
  const numbers = listArguments(outerArguments, {
    ...forwardGather(conv, window),
    ...parts,
    rows,
    columns,
    depth,
    leftPitch: outChannels,
    leftOuter: rows,
    rightOuter: channels / groups,
    outputOuter: rows * columns,
    outputPitch: columns,
    partial: total,
  })
  const split = parts.splits > 1
  const result = split ? scratch.take(parts.splits * total * numeric.computeBytes) : operand(2)
  const launches: Launch[] = [
    {
      source: printOuter(dtype),
      parts: groups * parts.rowParts * parts.columnParts * parts.splits,
      pointers: [operand(1), operand(0), result],
      numbers: [...numbers, ...window.table],
    },
  ]
  if (split) launches.push(lowerSum(dtype, { count: total, splits: parts.splits }, result, operand(2)))
  return { launches, scratchBytes: scratch.bytes }
}
