// Devices by name and the default one, over the life of a program that closes them and goes on.
import { afterAll, expect, test } from 'vitest'
import { closeDevices, defaultDevice, device, setDefaultDevice, tensor } from '../../src/index.ts'

afterAll(() => closeDevices())

test('a default device that nobody asked for is chosen anew after all were closed', async () => {
  const before = defaultDevice()
  await closeDevices()
  expect(defaultDevice()).not.toBe(before)
  expect(await tensor([1]).item()).toBe(1)
})

test('one that was asked for is not replaced', async () => {
  setDefaultDevice(device('reference'))
  await closeDevices()
  expect(() => tensor([1])).toThrow(/reference device that was closed/)
  setDefaultDevice(device('reference'))
  expect(await tensor([1]).item()).toBe(1)
})
