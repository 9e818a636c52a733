// Image folders as people have them: sorted classes, odd names, links, and one sentence for each mistake.
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { imageFolder, sortedAsPython } from '../../src/train/data/folder.ts'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pullback-folder-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

async function touch(...names: string[]): Promise<void> {
  for (const name of names) {
    await mkdir(dirname(join(dir, name)), { recursive: true })
    await writeFile(join(dir, name), '')
  }
}

describe('imageFolder', () => {
  it('lists classes and images in order, whatever the case of the ending, and passes over the rest', async () => {
    await touch('train/b/2.PNG', 'train/b/10.jpeg', 'train/a/x.JpG', 'train/a/notes.txt', 'train/a/.hidden.jpg')
    await touch('train/Z/sub/deep.webp', 'train/Z/top.tiff', 'train/.cache/1.jpg', 'train/readme.md')
    const folder = await imageFolder(dir, 'train')
    expect(folder.classes).toEqual(['Z', 'a', 'b'])
    expect(folder.paths.map((path) => path.slice(join(dir, 'train').length + 1))).toEqual([
      'Z/top.tiff',
      'Z/sub/deep.webp',
      'a/x.JpG',
      'b/10.jpeg',
      'b/2.PNG',
    ])
    expect(Array.from(folder.labels)).toEqual([0, 0, 1, 2, 2])
  })

  it('follows links to classes and images and passes over broken ones', async () => {
    await touch('elsewhere/1.jpg', 'train/a/1.jpg')
    await symlink(join(dir, 'elsewhere'), join(dir, 'train/linked'))
    await symlink(join(dir, 'elsewhere/1.jpg'), join(dir, 'train/a/2.jpg'))
    await symlink(join(dir, 'nowhere'), join(dir, 'train/a/3.jpg'))
    const folder = await imageFolder(dir, 'train')
    expect(folder.classes).toEqual(['a', 'linked'])
    expect(folder.paths.length).toBe(3)
  })

  it('is enough with one split where the other is not there', async () => {
    await touch('val/a/1.jpg', 'val/b/1.jpg')
    expect((await imageFolder(dir, 'val')).paths.length).toBe(2)
  })

  const refuses = async (message: RegExp, split: 'train' | 'val' = 'train', root = dir): Promise<void> => {
    await expect(imageFolder(root, split)).rejects.toMatchObject({ name: 'PullbackError', code: 'data' })
    await expect(imageFolder(root, split)).rejects.toThrow(message)
  }

  it('names what is wrong, and where', async () => {
    await refuses(/expected a folder at .*\/none, got none.*train\/<class>\/<image>/, 'train', join(dir, 'none'))
    await refuses(/expected the layout .*, got neither train nor val in/)
    await touch('val/a/1.jpg')
    await refuses(/expected a folder at .*\/train, got none/)
    await refuses(/at least two class folders in .*\/val, got only 'a'/, 'val')
    await mkdir(join(dir, 'train'))
    await refuses(/at least two class folders in .*\/train, got none/)
    await touch('train/a/1.jpg', 'train/c/1.jpg', 'train/d/1.jpg', 'val/b/1.jpg')
    await refuses(/same classes .* only in train: 'c', 'd'; only in val: 'b'/)
    await refuses(/same classes .* only in train: 'c', 'd'; only in val: 'b'/, 'val')
    await rm(join(dir, 'val'), { recursive: true })
    await touch('train/empty/readme.txt')
    await refuses(/expected images in .*\/train\/empty, got none/)
  })

  it('stops at links that run in a circle', async () => {
    await touch('train/a/1.jpg', 'train/b/1.jpg')
    await symlink(join(dir, 'train/a'), join(dir, 'train/a/again'))
    await refuses(/at most 16 levels/)
  })
})

describe('sortedAsPython', () => {
  it('orders by code point: sorted(["\\U0001F600", "\\uFF5E", "z", "Z", "é"])', () => {
    expect(sortedAsPython(['😀', '～', 'z', 'Z', 'é'])).toEqual(['Z', 'z', 'é', '～', '😀'])
  })
})
