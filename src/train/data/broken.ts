// The images of a run that could not be read: each is named once and counted; batches.ts decides what takes its place.

/** The unreadable images seen so far; one record serves all epochs of a run. */
export interface BrokenImages {
  readonly count: number
  /** Whether the image was recorded. */
  has(path: string): boolean
  /** Records an image; the callback hears of each path once. */
  add(path: string, error: Error): void
}

/** An empty record; `onBroken` is called once for each unreadable image, for instance to print a line. */
export function brokenImages(onBroken?: (path: string, error: Error) => void): BrokenImages {
  const paths = new Set<string>()
  return {
    get count() {
      return paths.size
    },
    has: (path) => paths.has(path),
    add: (path, error) => {
      if (paths.has(path)) return
      paths.add(path)
      onBroken?.(path, error)
    },
  }
}
